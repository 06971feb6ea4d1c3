"""From a user's raw files to a federation that is ready: `fedgram init`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fedgram.anchors import load_anchors
from fedgram.cli.main import app
from fedgram.config import jobfolder
from fedgram.config.job import JobConfig
from fedgram.config.site import read_site_config
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError
from fedgram.flare.workspace import require_fit
from fedgram.modalities import load
from toy import ROOT
from typer.testing import CliRunner

KINDS = ("wolf", "lynx", "bear")


def write(folder: Path, name: str, seed: int, each: int = 10) -> None:
    """Measures, and DNA, of animals of three kinds; the same ids in both."""
    draw = np.random.default_rng(seed)
    rows = [
        {"id": f"{kind}{i}", "kind": kind, "size": n + draw.normal(), "mass": -n + draw.normal()}
        for n, kind in enumerate(KINDS)
        for i in range(each)
    ]
    pd.DataFrame(rows).to_csv(folder / f"{name}-measures.csv", index=False)
    records = [f">{row['id']}\n{''.join(draw.choice([*'ACGT'], 60))}\n" for row in rows]
    (folder / f"{name}-dna.fasta").write_text("".join(records))
    pd.DataFrame(rows)[["id", "kind"]].to_csv(folder / f"{name}-dna.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "own", 0)
    write(tmp_path, "public", 1)
    return tmp_path


OWN = ("own-measures.csv", "dna:own-dna.fasta")
PUBLIC = ("--anchors", "public-measures.csv", "--anchors", "public-dna.fasta")


def init(*arguments: str, code: int = 0) -> str:
    answer = CliRunner().invoke(app, ["init", *arguments])
    assert answer.exit_code == code, answer.output
    return " ".join(answer.output.split())


def test_four_raw_files_are_a_federation(folder: Path):
    shown = init(*OWN, *PUBLIC)
    for words in ("own-measures: tabular", "dna: genomics", "next: fedgram simulate", "label: kind"):
        assert words in shown
    settings = from_dict(JobConfig, jobfolder.settings_in(jobfolder.read_server(Path("job"))), "test")
    sites = require_fit(Path("job"), Path("run"), settings)
    assert {name: config.modality for name, config in sites.items()} == {
        "own-measures": "tabular",
        "dna": "genomics",
    }
    assert sites["own-measures"].columns.concept == "kind"
    train, heldout = (load_anchors(folder / "anchors" / part) for part in ("train", "heldout"))
    assert (len(train), len(heldout)) == (15, 15)  # of ten a concept half are held out
    sources = {file.source.rpartition(": ")[2] for slot in train.slots for file in slot.files.values()}
    assert len(sources) == 15  # the two files of a slot have one id
    assert "size,mass" in (folder / "anchors/train" / train.slots[0].files["tabular"].path).read_text()


def test_public_tables_may_have_decimal_commas(folder: Path):
    """And not every row alone shows that they are no thousands."""
    table = pd.read_csv("public-measures.csv")
    masses = [f"{n}.5" if n % 5 == 0 else f"{n}.125" for n in range(30)]
    table.assign(size=range(30), mass=masses).to_csv("public-measures.csv", index=False, sep=";")
    text = (folder / "public-measures.csv").read_text()
    (folder / "public-measures.csv").write_text(text.replace(".", ","))
    init(*OWN, *PUBLIC)
    rows = load_anchors(folder / "anchors/train").contents(load("tabular"))
    assert {row.values[1] - row.values[0] for row in rows} == {0.5, 0.125}


def test_a_feature_of_the_site_is_one_of_the_public_rows_too(folder: Path):
    """Also where every public row has another value, as an id would."""
    own, public = pd.read_csv("own-measures.csv"), pd.read_csv("public-measures.csv")
    own.assign(stall=[f"s{i % 5}" for i in range(30)]).to_csv("own-measures.csv", index=False)
    public.assign(stall=[f"s{i}" for i in range(30)]).to_csv("public-measures.csv", index=False)
    init("--label", "own-measures=kind", *OWN, *PUBLIC)
    rows = load_anchors(folder / "anchors/train").contents(load("tabular"))
    assert {row.columns for row in rows} == {("size", "mass", "stall")}


def test_nothing_is_overwritten_unasked(folder: Path):
    init(*OWN, *PUBLIC)
    before = (folder / "job/meta.json").read_bytes()
    assert "already there" in init(*OWN, *PUBLIC, code=1)
    init(*OWN, *PUBLIC, "--force")
    assert (folder / "job/meta.json").read_bytes() == before


def test_without_public_files_there_are_folders_to_fill(folder: Path):
    shown = init(*OWN)
    assert "put a few public files of each concept into them" in shown
    assert {path.name for path in (folder / "public/train/genomics").iterdir()} == set(KINDS)
    table = pd.read_csv("public-measures.csv")
    dna = dict(zip(table["id"], (folder / "public-dna.fasta").read_text().split("\n")[1::2], strict=True))
    for part, rows in (("train", slice(0, 3)), ("heldout", slice(3, 6))):
        for kind in KINDS:
            own = table[table["kind"] == kind].iloc[rows]
            own[["size", "mass"]].to_csv(folder / "public" / part / "tabular" / kind / "rows.csv", index=False)
            for name in own["id"]:
                (folder / "public" / part / "genomics" / kind / f"{name}.fasta").write_text(
                    f">{name}\n{dna[name]}\n"
                )
    assert "anchors/train: 9 anchors of 3 concepts" in init(*OWN)
    assert (folder / "job/meta.json").is_file()


def test_a_method_of_another_package_is_allowed_at_the_server_too(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """And where it is not, that is said before anything starts, with the file that survives a simulation."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    init(*OWN, *PUBLIC, "--method", "my_methods:ClippedMean")
    settings = from_dict(JobConfig, jobfolder.settings_in(jobfolder.read_server(Path("job"))), "test")
    require_fit(Path("job"), Path("run"), settings)
    own = Path("run/local/fedgram/server.toml")
    own.unlink()
    with pytest.raises(ConfigError, match="my_methods:ClippedMean") as caught:
        require_fit(Path("job"), Path("run"), settings)
    assert str(own) in str(caught.value)


def test_what_training_would_refuse_ends_with_1(folder: Path):
    table = pd.read_csv("public-measures.csv").drop(columns="mass")
    table.to_csv("public-measures.csv", index=False)
    shown = init(*OWN, *PUBLIC, code=1)
    assert "'mass'" in shown
    assert "give the command again with --force" in shown


def test_words_of_the_command_line(folder: Path):
    pd.read_csv("own-measures.csv").assign(ward=["a", "b"] * 15).to_csv("two.csv", index=False)
    assert "say --label COLUMN, or --label SITE=COLUMN" in init("two.csv", OWN[1], *PUBLIC, code=1)
    init("t:tabular:two.csv", OWN[1], *PUBLIC, "--label", "t=kind", "--group", "t=ward", "--method", "fedit")
    config = read_site_config(folder / "run/local/fedgram/t.toml")
    assert (config.columns.concept, config.columns.group) == ("kind", "ward")
    assert config.methods == ("fedit",)
    assert "fedgram-fedit" in (folder / "job/meta.json").read_text()
    assert "two or more, each with a name of its own" in init("own-measures.csv", *PUBLIC, code=1)
    assert "no such file or folder" in init("nowhere.csv", OWN[1], code=1)
    assert "no site" in init(code=1)
    assert "unknown task 'regresion'" in init(*OWN, "--task", "regresion", "--out", "misspelt", code=1)
    assert not (folder / "misspelt").exists()
    assert "no tokenizer for modality 'my:M'" in init("a:my:M:own-measures.csv", OWN[1], code=1)
    few = pd.read_csv("public-measures.csv").iloc[:2]
    few.to_csv("few.csv", index=False)
    assert "at least 4" in init(*OWN, "--anchors", "few.csv", "--out", "other", code=1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--group", "cels=pid"), "--group cels=pid: no site 'cels'"),
        (("--label", "kind", "--label", "size"), "--label size: said twice"),
        (("--label", "dna="), "--label dna=: no value"),
        (("--task", "anchors=regression"), "--task anchors=regression: no site 'anchors'"),
        (("--tokenizer", "wide"), "--tokenizer wide: for no site expected: own-measures=VALUE, dna=VALUE"),
        (("--tokenizer", "cells=wide"), "--tokenizer cells=wide: no site 'cells'"),
    ],
)
def test_what_is_said_for_no_site_is_refused(words: tuple[str, ...], problem: str, folder: Path):
    assert problem in init(*OWN, *PUBLIC, *words, code=1)
    assert not (folder / "run").exists()


def test_a_modality_is_said_as_the_remedy_has_it(folder: Path):
    """For a site and for public files."""
    for name in ("own", "public"):
        table = pd.read_csv(f"{name}-measures.csv")
        table.assign(note=[f"it is one {kind} of {name}" for kind in table["id"]]).to_csv(
            f"{name}.csv", index=False
        )
    own, public = "own.csv", "public.csv"
    assert "say it before the path: text:own.csv" in init(own, OWN[1], "--anchors", public, code=1)
    own = "tabular:own.csv"
    shown = init(own, OWN[1], "--anchors", public, "--anchors", "public-dna.fasta", code=1)
    assert "say it before the path: text:public.csv" in shown
    init(own, OWN[1], "--anchors", "tabular:public.csv", "--anchors", "public-dna.fasta")


def test_the_split_of_a_table_is_kept(folder: Path):
    table = pd.read_csv("own-measures.csv")
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    table.assign(Split=parts * len(KINDS)).to_csv("own-measures.csv", index=False)
    shown = init(*OWN, *PUBLIC)
    assert "split: Split (every row is in the one that it names)" in shown
    assert "own-measures: 18 to train, 6 to validation, 6 to test" in shown
    assert read_site_config(folder / "run/local/fedgram/own-measures.toml").columns.split == "Split"


def write_targets(folder: Path, target: str, concept: str) -> None:
    """Tables of two sites and a public one, with what is learnt and, if it is named, a column of concepts."""
    for seed, name in enumerate(("one", "two", "public")):
        draw = np.random.default_rng(seed)
        kinds = [*KINDS] * 10
        table = pd.DataFrame({"size": draw.normal(size=30), "mass": draw.normal(size=30)})
        if target == "labels":
            table = pd.DataFrame({"note": [f"it is {kind} number {i} in {name}" for i, kind in enumerate(kinds)]})
        learnt = {
            "target": table.get("size"),
            "labels": [f"{kind}|seen" if kind < "m" else "seen" for kind in kinds],
        }
        table[target] = learnt[target]
        if concept:
            table[concept] = kinds
        table.to_csv(folder / f"{name}.csv", index=False)


TWO = ("one.csv", "two.csv", "--anchors", "public.csv")


@pytest.mark.parametrize(("target", "task"), [("target", "regression"), ("labels", "multilabel")])
def test_targets_that_are_no_classes_stand_beside_concepts(target: str, task: str, folder: Path):
    write_targets(folder, target, "concept")
    assert "2 columns may be the label" in init(*TWO, code=1)
    shown = init(*TWO, "--label", target)
    assert f"task: {task}, by what column {target} holds" in shown
    assert "anchors/train: 15 anchors of 3 concepts" in shown
    site = folder / "run/local/fedgram/one.toml"
    columns = read_site_config(site).columns
    assert (columns.target, columns.concept) == (target, "concept")
    checked = CliRunner().invoke(app, ["data", "check", str(site)])
    assert checked.exit_code == 0, checked.output
    if task == "regression":
        train = load_anchors(folder / "anchors/train")
        (first,) = train.slots[0].files.values()
        assert (folder / "anchors/train" / first.path).read_text().startswith("size,mass\n")
    (folder / "run").rename(folder / "run-before")
    init("one.csv", "two.csv", "--label", target)  # folders to fill
    assert {path.name for path in (folder / "public/train").glob("*/*")} == set(KINDS)


@pytest.mark.parametrize(("target", "task"), [("target", "regression"), ("labels", "multilabel")])
def test_targets_that_are_no_classes_need_public_concepts(target: str, task: str, folder: Path):
    """Of another name, too; the sites themselves do without."""
    write_targets(folder, target, "")
    for words in ((), ("--label", target)):
        shown = init(*TWO, *words, code=1)
        assert f"public.csv: no column of concepts; the sites learn {task} expected: a column `concept`" in shown
        assert "--label anchors=COLUMN" in shown
    shown = init(*TWO, "--label", f"anchors={target}", code=1)
    assert f"no column of concepts; column {target} has targets of {task}" in shown
    assert "no site names concepts" in init(*TWO[:2], code=1)
    assert not (folder / "public").exists()
    pd.read_csv("public.csv").assign(kind=[*KINDS] * 10).to_csv("public.csv", index=False)
    assert "15 anchors of 3 concepts" in init(*TWO, "--label", target, "--label", "anchors=kind")
    assert "nothing can be named by its labels" in init(*TWO, "--force", "--label", "anchors=kind")


@pytest.mark.parametrize("name", ["server", "a/b", "a b"])
def test_a_name_that_no_site_can_have(name: str, folder: Path):
    shown = init(f"{name}:own-measures.csv", OWN[1], *PUBLIC, code=1)
    assert f"a site named {name!r}" in shown
    assert "give it another name: NAME:tabular:own-measures.csv" in shown
    assert not (folder / "run").exists()


@pytest.mark.parametrize("kind", ["HER2+/ER-", "..", ".hidden"])
def test_a_class_that_cannot_be_a_folder(kind: str, folder: Path):
    for name in ("own", "public"):
        table = pd.read_csv(f"{name}-measures.csv")
        table.replace({"kind": {"bear": kind}}).to_csv(f"{name}-measures.csv", index=False)
    shown = init(*OWN, code=1)
    assert f"class {kind!r}" in shown
    assert "--anchors FILE" in shown
    assert not (folder / "public").exists()
    init(*OWN, "--anchors", "public-measures.csv", "--anchors", "public-dna.fasta")


def test_on_a_terminal_it_asks(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """For the sites, and for a label that the file leaves open."""
    monkeypatch.setattr("fedgram.cli.init._can_ask", lambda: True)
    for name, out in (("own-measures.csv", "two.csv"), ("public-measures.csv", "public-measures.csv")):
        pd.read_csv(name).assign(ward=["a", "b"] * 15).to_csv(out, index=False)
    answer = CliRunner().invoke(app, ["init", *PUBLIC], input="two.csv\ndna:own-dna.fasta\n\nkind\n")
    assert answer.exit_code == 0, answer.output
    assert "2 columns may be the label. label? kind, ward" in answer.output
    assert read_site_config(folder / "run/local/fedgram/two.toml").columns.concept == "kind"
