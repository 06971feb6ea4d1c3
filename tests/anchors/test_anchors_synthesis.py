"""Synthetic anchors: each kind of generator, marked as what it is, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fedgram import modalities
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.anchors.build import build
from fedgram.anchors.synthesis import Generator, fill
from fedgram.anchors.synthesis.copula import fit_copula, gaussian_copula
from fedgram.anchors.synthesis.markov import fit_chain, markov_chain
from fedgram.anchors.synthesis.prompts import read_prompts, sentences
from fedgram.anchors.synthesis.sources import sequences, table_rows
from fedgram.cli.main import app
from fedgram.errors import AnchorError
from toy import ROOT
from typer.testing import CliRunner

CARNIVORA = ROOT / "anchors" / "carnivora" / "train"


@pytest.fixture(scope="module")
def anchors(tmp_path_factory: pytest.TempPathFactory) -> AnchorSet:
    """Texts of cats and dogs, 5 each; one emu; nothing else."""
    folder = tmp_path_factory.mktemp("synthesis")
    for concept, count in (("cat", 5), ("dog", 5), ("emu", 1)):
        (folder / "sources" / "text" / concept).mkdir(parents=True)
        for i in range(count):
            (folder / "sources" / "text" / concept / f"{i}.txt").write_text(f"{concept} {i}")
    terms = {"licence": "CC0-1.0", "source": "made in the test"}
    return build(folder / "sources", folder / "set", name="tiny", terms=terms)


def constant(*contents: str) -> Generator:
    """Gives the same images' worth of DNA for every seed: what a generator must not do."""

    def draw(concept: str, seeds: object) -> list[bytes]:
        return [f">x\n{contents[i % len(contents)]}\n".encode() for i, _ in enumerate(seeds)]  # type: ignore[arg-type]

    return Generator("genomics", ".fasta", {"generator": "constant"}, draw)


def dna(seed: int, length: int = 400) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def chain(order: int = 1) -> Generator:
    return markov_chain(
        {c: [dna(i), dna(i + 9)] for i, c in enumerate(("cat", "dog", "emu"))}, order, "random bases"
    )


def test_only_empty_slots_are_filled_and_marked(anchors, tmp_path):
    filled = fill(
        load_anchors(CARNIVORA),
        tmp_path / "new",
        _carnivora_tables(),
        licence="CC0-1.0",
        seed=3,
        concepts=["Felidae"],
    )
    before = load_anchors(CARNIVORA)
    assert filled.name == "carnivora-train+synthetic-tabular"
    assert [s.id for s in filled.slots] == [s.id for s in before.slots]
    for old, new in zip(before.slots, filled.slots, strict=True):
        assert {m: f for m, f in new.files.items() if m in old.files} == dict(old.files)
        extra = {m: f for m, f in new.files.items() if m not in old.files}
        if old.concept != "Felidae" or "tabular" in old.files:
            assert not extra
            continue
        file = extra.pop("tabular")
        assert not extra
        assert (file.origin, file.licence, file.source) == ("synthetic", "CC0-1.0", "synthetic: gaussian-copula")
        assert file.made == {"generator": "gaussian-copula", "fitted_on": _named(before), "seed": 3}
    assert len(filled.covered("tabular")) == len(before.covered("tabular")) + 2
    filled.contents(modalities.load("tabular"))


def _named(anchors: AnchorSet) -> str:
    return f"real anchors of {anchors.name}, manifest {anchors.manifest_sha256}"


def _carnivora_tables() -> Generator:
    return gaussian_copula(*table_rows(load_anchors(CARNIVORA), None))


def test_the_same_seed_gives_the_same_set_and_another_another(anchors, tmp_path):
    sets = [
        fill(anchors, tmp_path / name, chain(), licence="CC0-1.0", seed=seed)
        for name, seed in (("one", 5), ("again", 5), ("other", 6))
    ]
    assert sets[0].manifest_sha256 == sets[1].manifest_sha256 != sets[2].manifest_sha256


def test_a_slot_does_not_depend_on_which_others_are_filled(anchors, tmp_path):
    every = fill(anchors, tmp_path / "all", chain(), licence="CC0-1.0", seed=5)
    dogs = fill(anchors, tmp_path / "dogs", chain(), licence="CC0-1.0", seed=5, concepts=["dog"])
    kind = modalities.load("genomics")
    assert dogs.contents(kind) == [
        c for c, k in zip(every.contents(kind), every.concepts("genomics"), strict=True) if k == "dog"
    ]


def test_a_second_filling_does_not_fit_on_the_first(anchors, tmp_path):
    filled = fill(anchors, tmp_path / "new", chain(), licence="CC0-1.0", seed=0)
    found, _ = sequences(filled, None)
    assert found == {}


def test_generators_that_repeat_themselves_are_refused(anchors, tmp_path):
    with pytest.raises(AnchorError, match="2 different anchors for 5 empty slots"):
        fill(anchors, tmp_path / "new", constant("ACGT", "ACGG"), licence="CC0-1.0", seed=0)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_filled(anchors, tmp_path):
    with pytest.raises(AnchorError, match="no concept 'cow'"):
        fill(anchors, tmp_path / "new", chain(), licence="CC0-1.0", seed=0, concepts=["cow"])
    full = fill(anchors, tmp_path / "full", chain(), licence="CC0-1.0", seed=0)
    with pytest.raises(AnchorError, match="no empty genomics slot"):
        fill(full, tmp_path / "new", chain(), licence="CC0-1.0", seed=0)


# --- templates


def facts(folder: Path, *rows: str) -> Path:
    path = folder / "facts.csv"
    path.write_text("\n".join(["concept,food,home", *rows]) + "\n")
    return path


def test_templates_take_every_fact_and_skip_what_is_not_known(tmp_path):
    table = facts(tmp_path, "cat,mice,houses", "cat,,barns", "dog,bones,kennels")
    prompts = read_prompts(["A {concept} lives in {home}.", "{concept} eats {food}", "A {concept}."], table)
    assert prompts.of("cat") == ["A cat lives in houses.", "A cat lives in barns.", "cat eats mice", "A cat."]
    assert prompts.of("emu") == ["A emu."]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{colour}", "unknown {colour}"),
        ("{concept.__class__}", "not a template"),
        ("{", "not a template"),
        ("{0}", "not a t"),
    ],
)
def test_templates_name_columns_and_nothing_else(template, problem, tmp_path):
    with pytest.raises(AnchorError, match=problem):
        read_prompts([template], facts(tmp_path, "cat,mice,houses"))


def test_every_sentence_is_used_once(tmp_path):
    texts = sentences(
        read_prompts(["{concept} in {home}"], facts(tmp_path, *(f"cat,x,home {i}" for i in range(5))))
    )
    drawn = texts.draw("cat", [11, 12, 13, 14, 15])
    assert sorted(drawn) == [f"cat in home {i}\n".encode() for i in range(5)]
    with pytest.raises(AnchorError, match="5 texts for 6 empty slots"):
        texts.draw("cat", range(6))
    with pytest.raises(AnchorError, match="no facts for concept 'dog'"):
        texts.draw("dog", [1])
    with pytest.raises(AnchorError, match="no template"):
        read_prompts([])


# --- tables


def table(n: int, seed: int = 0) -> pd.DataFrame:
    """Two correlated numbers, an integer, a category, a constant, one that is never there, one often missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 0.9 * x + 0.43589 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "x": [f"{v:.3f}" for v in np.exp(x)],
            "y": [f"{v:.3f}" for v in y],
            "legs": [str(v) for v in rng.integers(2, 9, n)],
            "sex": [("f", "m")[int(v > 0)] for v in x],
            "kind": ["same"] * n,
            "never": [""] * n,
            "often": ["NA" if v < 0.6 else "1.5" for v in rng.random(n)],
        }
    )


def test_a_copula_keeps_marginals_dependence_and_gaps():
    real = table(400)
    copula = fit_copula(real, "test")
    drawn = pd.DataFrame([copula.draw(seed) for seed in range(2000)], columns=list(copula.columns))
    x, y = (drawn[c].astype(float) for c in ("x", "y"))
    truth_x, truth_y = (real[c].astype(float) for c in ("x", "y"))
    assert truth_x.min() <= x.min()
    assert x.max() <= truth_x.max()
    for q in (0.1, 0.5, 0.9):
        assert abs((y <= truth_y.quantile(q)).mean() - q) < 0.04
    assert abs(x.corr(y, method="spearman") - truth_x.corr(truth_y, method="spearman")) < 0.05
    assert (
        x[drawn.sex == "m"].min() > 0.2 * x[drawn.sex == "f"].max()
        or x[drawn.sex == "m"].mean() > 2 * x[drawn.sex == "f"].mean()
    )
    assert set(drawn.sex) == {"f", "m"}
    assert set(drawn.legs) <= {str(v) for v in range(2, 9)}
    assert set(drawn.kind) == {"same"}
    assert set(drawn.never) == {""}
    assert set(drawn.often) == {"", "1.5"}
    assert abs((drawn.often == "").mean() - (real.often == "NA").mean()) < 0.05


def test_independent_columns_stay_independent():
    rng = np.random.default_rng(1)
    real = pd.DataFrame({c: [f"{v:.4f}" for v in rng.normal(size=400)] for c in "ab"})
    copula = fit_copula(real, "test")
    drawn = np.array([[float(v) for v in copula.draw(seed)] for seed in range(2000)])
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1


def test_few_rows_are_one_clear_error(tmp_path):
    with pytest.raises(AnchorError, match="3 rows"):
        fit_copula(table(3), "test")
    fit_copula(table(4), "test").draw(0)
    with pytest.raises(AnchorError, match=r"Ursidae, tabular: 1 rows"):
        fill(load_anchors(CARNIVORA), tmp_path / "new", _carnivora_tables(), licence="CC0-1.0", seed=0)


def test_a_public_table_has_the_columns_of_the_anchors(tmp_path):
    before = load_anchors(CARNIVORA)
    own, _ = table_rows(before, None)
    public = pd.concat([frame.assign(concept=c, note="x") for c, frame in own.items()])
    public.to_csv(tmp_path / "public.csv", index=False)
    rows, said = table_rows(before, tmp_path / "public.csv")
    assert said.startswith("public.csv, sha256 ")
    assert list(rows["Canidae"].columns) == list(own["Canidae"].columns)
    text = (tmp_path / "public.csv").read_text()
    (tmp_path / "public.csv").write_text(text.replace(",", ";").replace(".", ","))
    assert table_rows(before, tmp_path / "public.csv")[0]["Ursidae"].equals(rows["Ursidae"])
    public.drop(columns="brain_g").to_csv(tmp_path / "public.csv", index=False)
    with pytest.raises(AnchorError, match="no column 'brain_g'"):
        table_rows(before, tmp_path / "public.csv")


# --- DNA


def test_a_chain_has_the_transitions_of_its_sequences():
    """A strongly non-uniform chain of order 2 is found again; an order too low would not."""
    rng = np.random.default_rng(0)
    rule = rng.dirichlet([0.3] * 4, size=16)
    letters = [0, 1]
    for _ in range(20000):
        letters.append(int(rng.choice(4, p=rule[letters[-2] * 4 + letters[-1]])))
    real = "".join("ACGT"[i] for i in letters)
    drawn = "".join(fit_chain([real], 2, "test").draw(seed) for seed in (1,))
    assert len(drawn) == len(real)

    def frequencies(sequence: str) -> np.ndarray:
        counts = Counter(sequence[i : i + 3] for i in range(len(sequence) - 2))
        return np.array([counts[f"{a}{b}{c}"] for a in "ACGT" for b in "ACGT" for c in "ACGT"]) / len(sequence)

    assert np.abs(frequencies(drawn) - frequencies(real)).max() < 0.02
    lower = fit_chain([real], 1, "test").draw(1)
    assert np.abs(frequencies(lower) - frequencies(real)).max() > 0.02


def test_ambiguous_letters_break_the_context():
    counts = fit_chain(["ACGTN" * 20], 1, "test").counts
    assert counts.sum() == 3 * 20
    assert counts[0].tolist() == [0, 20, 0, 0]


def test_the_length_is_the_median_and_zero_order_works():
    assert len(fit_chain(["A" * 10, "C" * 30, "G" * 50], 0, "test").draw(0)) == 30


def test_short_sequences_are_one_clear_error():
    with pytest.raises(AnchorError, match="expected: at least 256 for order 3"):
        fit_chain([dna(0, 200)], 3, "test")
    with pytest.raises(AnchorError, match="order 9"):
        fit_chain([dna(0)], 9, "test")
    with pytest.raises(AnchorError, match=r"cow, genomics: 0 bases"):
        chain().draw("cow", [1])


# --- the command line


def test_the_commands_write_sets_that_a_site_can_read(anchors, tmp_path):
    def run(*arguments: object) -> AnchorSet:
        done = CliRunner().invoke(app, ["anchors", "synthesise", *map(str, arguments), "--licence", "CC0-1.0"])
        assert done.exit_code == 0, done.output
        return load_anchors(Path(str(arguments[2])))

    public = tmp_path / "public.fasta"
    public.write_text("".join(f">{c}{i}\n{dna(i)}\n" for c in ("cat", "dog", "emu") for i in range(3)))
    labels = [f"{c}{i},{c},{c}{i}" for c in ("cat", "dog", "emu") for i in range(3)]
    public.with_suffix(".csv").write_text("\n".join(["id,concept,group", *labels]) + "\n")
    first = run("genomics", anchors.folder, tmp_path / "dna", "--sequences", public, "--order", 2)
    assert first.covered("genomics") == tuple(range(11))
    assert first.slots[0].files["genomics"].made["order"] == 2
    rows = table(20).assign(concept=["cat", "dog"] * 10)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    second = run(
        "tabular",
        first.folder,
        tmp_path / "rows",
        "--rows",
        tmp_path / "rows.csv",
        "--concept",
        "dog",
        "--concept",
        "cat",
    )
    assert len(second.covered("tabular")) == 10
    assert len(second.covered("genomics")) == 11
    lone = run(
        "text",
        CARNIVORA,
        tmp_path / "text",
        "--template",
        "{concept} in {home}",
        "--facts",
        facts(tmp_path, *(f"Ursidae,x,{i}" for i in range(2))),
    )
    assert len(lone.covered("text")) == 24
    manifest = (tmp_path / "text/manifest.json").read_text()
    assert json.loads(manifest)["name"] == "carnivora-train+synthetic-text"
    assert str(tmp_path) not in manifest
    failed = CliRunner().invoke(
        app, ["anchors", "synthesise", "tabular", str(CARNIVORA), str(tmp_path / "x"), "--licence", "MIT"]
    )
    assert failed.exit_code == 1
    assert "AnchorError" in failed.stderr
