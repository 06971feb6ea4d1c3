"""Anchor sets from a user's own folders, and what `fedgram anchors` says about them."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path
from time import process_time

import pytest
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.anchors.build import build
from fedgram.anchors.coverage import coverage, duplicates, find_modality, known_modalities, shortcomings
from fedgram.cli.main import app
from fedgram.errors import AnchorError, DataError
from PIL import Image
from toy import ROOT
from typer.testing import CliRunner

TERMS = {"licence": "CC0-1.0", "source": "made in the test"}


def put(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Texts 3 + 2, images 1 + 2, a FASTA of 2 records, a table of 4 rows of one concept."""
    folder = tmp_path / "sources"
    for concept, count in (("cat", 3), ("dog", 2)):
        for i in range(count):
            put(folder, f"text/{concept}/{i}.txt", f"{concept} number {i}\n")
    for name, colour in (("cat/a.png", 10), ("dog/b.PNG", 20), ("dog/c.png", 30)):
        (folder / "image" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(folder / "image" / name)
    put(folder, "genomics/dog/both.fasta.gz", gzip.compress(b">one x\nACGT\nAC\n>two\nTTTT\n"))
    put(folder, "tabular/cat/rows.csv", "id,weight,legs\r\na,1.5,4\r\nb,2,4\r\n\r\nc,3,4\r\nd,,4\r\n")
    return folder


def make(sources: Path, out: Path) -> AnchorSet:
    return build(sources, out, name="mine", terms=TERMS)


def test_each_concept_has_as_many_slots_as_its_richest_modality_and_nothing_is_repeated(sources, tmp_path):
    anchors = make(sources, tmp_path / "set")
    assert [slot.id for slot in anchors.slots] == [*(f"cat-{i}" for i in (1, 2, 3, 4)), "dog-1", "dog-2"]
    assert {m: anchors.covered(m) for m in ("text", "image", "genomics", "tabular")} == {
        "text": (0, 1, 2, 4, 5),
        "image": (0, 4, 5),
        "genomics": (4, 5),
        "tabular": (0, 1, 2, 3),
    }
    kinds = known_modalities([anchors])
    assert anchors.contents(kinds["text"])[:2] == ["cat number 0", "cat number 1"]
    assert anchors.contents(kinds["genomics"]) == ["ACGTAC", "TTTT"]
    assert [row.values[0] for row in anchors.contents(kinds["tabular"])][:3] == [1.5, 2.0, 3.0]
    assert len(anchors.contents(kinds["image"])) == 3
    assert [anchors.slots[i].files["image"].path for i in (0, 4)] == ["image/cat-1.png", "image/dog-1.png"]
    assert not duplicates({"": anchors}, kinds)
    assert str(coverage(anchors)["dog"]["tabular"]) == "–"


def test_the_manifest_says_where_every_file_is_from(sources, tmp_path):
    put(sources, "sources.toml", '[image]\nlicence = "MIT"\norigin = "synthetic"\n')
    anchors = make(sources, tmp_path / "set")
    image, rows = anchors.slots[0].files["image"], anchors.slots[1].files["tabular"]
    assert (image.licence, image.origin, image.source) == ("MIT", "synthetic", "made in the test: cat/a.png")
    assert (rows.licence, rows.origin, rows.source) == ("CC0-1.0", "real", "made in the test: cat/rows.csv, row 2")
    assert str(tmp_path) not in (tmp_path / "set/manifest.json").read_text()


def test_the_same_files_give_the_same_set(sources, tmp_path):
    first, second = make(sources, tmp_path / "one"), make(sources, tmp_path / "two")
    assert first.manifest_sha256 == second.manifest_sha256


def test_shortcomings_are_named(sources, tmp_path):
    found = shortcomings(make(sources, tmp_path / "set"))
    assert "image: 3 slots; a site of this modality needs at least 4" in found
    assert "genomics and tabular: fewer than 2 slots in common; they cannot be compared" in found
    put(sources, "text/emu/0.txt", "emu")
    assert any(line.startswith("emu: only text has it") for line in shortcomings(make(sources, tmp_path / "two")))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("text/dog/9.txt", "cat number 0", "the same text content 2 times"),
        ("genomics/cat/again.fa", ">other header\nacgtac\n", "the same genomics content 2 times"),
        ("text/dog/9.txt", "  \n", "not an anchor of modality 'text': empty"),
        ("image/cat/x.png", "no image", "not an anchor of modality 'image'"),
        ("text/note.txt", "x", "a file where a concept folder should be"),
        ("text/dog/deep/x.txt", "x", "a folder inside a concept"),
        ("smell/cat/x", "x", "unknown modality 'smell'"),
        ("sources.toml", "[", "not a TOML file"),
        ("sources.toml", '[smell]\nlicence = "x"', "no modality folder 'smell'"),
        ("sources.toml", "[text]\nlicense = 'x'", "did you mean 'licence'"),
    ],
)
def test_what_cannot_be_an_anchor_is_refused_by_name(name, content, problem, sources, tmp_path):
    put(sources, name, content)
    with pytest.raises(AnchorError, match=problem):
        make(sources, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert not list(tmp_path.glob(".anchors-*"))


def test_a_file_that_is_no_dna_is_refused(sources, tmp_path):
    put(sources, "genomics/cat/protein.fasta", ">p\nMKLE\n")
    with pytest.raises(DataError, match=r"protein\.fasta, record 1: a letter outside the IUPAC"):
        make(sources, tmp_path / "set")


def test_licence_and_source_are_required(sources, tmp_path):
    with pytest.raises(AnchorError, match="missing setting 'source'"):
        build(sources, tmp_path / "set", name="mine", terms={"licence": "MIT"})


def test_a_set_is_never_overwritten(sources, tmp_path):
    make(sources, tmp_path / "set")
    with pytest.raises(AnchorError, match="already exists"):
        make(sources, tmp_path / "set")


def test_a_modality_of_ones_own_is_declared(sources, tmp_path, monkeypatch):
    shutil.copy(ROOT / "examples" / "my_signals.py", tmp_path / "own_signals.py")
    monkeypatch.syspath_prepend(tmp_path)
    put(sources, "signal/cat/x.csv", "1,2,3\n")
    terms = ["--licence", "MIT", "--source", "here", "--modality", "own_signals:MODALITY"]
    built = CliRunner().invoke(app, ["anchors", "build", str(sources), str(tmp_path / "set"), *terms])
    assert built.exit_code == 0, built.stderr
    assert "An anchor set is public" in built.stderr
    assert load_anchors(tmp_path / "set").covered("signal") == (0,)
    sys.modules.pop("own_signals", None)


def test_check_prints_the_settings_of_a_job():
    train, heldout = (ROOT / "anchors/carnivora" / part for part in ("train", "heldout"))
    job = json.loads((ROOT / "jobs/geodora/app_server/config/config_fed_server.json").read_text())
    settings = job["workflows"][0]["args"]["job"]
    one = CliRunner().invoke(app, ["anchors", "check", str(train)])
    assert json.loads(one.stdout) == settings["anchors"]
    both = CliRunner().invoke(app, ["anchors", "check", str(train), str(heldout)])
    assert both.exit_code == 0
    assert json.loads(both.stdout) == {name: settings[name] for name in ("anchors", "heldout")}
    assert "Mustelidae" in both.stderr


def test_check_writes_the_sets_into_a_job_and_nothing_else(sources, tmp_path):
    shutil.copytree(ROOT / "jobs/geodora", tmp_path / "job")
    path = tmp_path / "job/app_server/config/config_fed_server.json"
    before = json.loads(path.read_text())
    train, heldout = (str(ROOT / "anchors/carnivora" / part) for part in ("train", "heldout"))
    same = CliRunner().invoke(app, ["anchors", "check", train, heldout, "--job", str(tmp_path / "job")])
    assert same.exit_code == 0, same.stderr
    assert json.loads(path.read_text()) == before
    assert path.read_text() == (ROOT / "jobs/geodora/app_server/config/config_fed_server.json").read_text()
    make(sources, tmp_path / "set")
    command = ["anchors", "check", str(tmp_path / "set")]
    printed = CliRunner().invoke(app, command)
    assert CliRunner().invoke(app, [*command, "--job", str(tmp_path / "job")]).exit_code == 0
    settings = before["workflows"][0]["args"]["job"]
    settings["heldout"] = None  # no longer the one that goes with the set before
    settings["anchors"] = json.loads(printed.stdout)
    assert json.loads(path.read_text()) == before


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"workflows": []}', '{"workflows": [{"args": {}}]}'])
def test_anchors_are_not_written_into_what_is_no_job(content, tmp_path):
    if content is not None:
        put(tmp_path, "app_server/config/config_fed_server.json", content)
    train = str(ROOT / "anchors/carnivora/train")
    refused = CliRunner().invoke(app, ["anchors", "check", train, "--job", str(tmp_path)])
    assert refused.exit_code == 1
    assert "not a job of fedgram" in refused.stderr


def test_check_finds_an_anchor_that_is_in_training_and_held_out(sources, tmp_path):
    make(sources, tmp_path / "train")
    put(sources, "text/dog/0.txt", "another dog")
    put(sources, "genomics/dog/both.fasta.gz", b"")
    (sources / "genomics/dog/both.fasta.gz").unlink()
    put(sources, "genomics/dog/new.fasta", ">other name\nacgt-ac\n")  # the same sequence in another file
    for folder in ("image", "tabular"):
        for file in (sources / folder).rglob("*.*"):
            file.unlink()
    for empty in ("image/cat", "image/dog", "image", "tabular/cat", "tabular"):
        (sources / empty).rmdir()
    make(sources, tmp_path / "heldout")
    shutil.copytree(ROOT / "jobs/geodora", tmp_path / "job")
    path = tmp_path / "job/app_server/config/config_fed_server.json"
    before = path.read_text()
    sets = [str(tmp_path / "train"), str(tmp_path / "heldout")]
    done = CliRunner().invoke(app, ["anchors", "check", *sets, "--job", str(tmp_path / "job")])
    assert done.exit_code == 1
    assert path.read_text() == before
    assert "the same genomics: anchors dog-1, heldout dog-1" in done.stderr
    assert "the same text: anchors cat-1, heldout cat-1" in done.stderr
    assert "anchors dog-1, heldout dog-1" not in done.stderr.replace("genomics: anchors dog-1", "")


def test_check_refuses_what_is_no_set(tmp_path):
    refused = CliRunner().invoke(app, ["anchors", "check", str(tmp_path)])
    assert refused.exit_code == 1
    assert "no anchor manifest" in refused.stderr


def test_a_concept_has_one_name_however_its_accents_are_coded(tmp_path):
    terms = (
        '\ufeff[text]\nlicence = "CC0-1.0"\nsource = "here"\n[genomics]\nlicence = "CC0-1.0"\nsource = "here"\n'
    )
    put(tmp_path, "sources/sources.toml", terms)
    for i, name in enumerate(("Bär", "Ba\u0308r")):
        put(tmp_path, f"sources/text/{name}/{i}.txt", f"\ufeffbear {i}\n")
        put(tmp_path, f"sources/text/{name}/Thumbs.db", b"\0")
    put(tmp_path, "sources/genomics/Ba\u0308r/a.fa", ">a\nACGTACGT\n")
    put(tmp_path, "sources/__MACOSX/._text", b"\0")
    anchors = build(tmp_path / "sources", tmp_path / "set", name="mine", terms={})
    assert [slot.id for slot in anchors.slots] == ["Bär-1", "Bär-2"]
    assert sorted(anchors.contents(known_modalities([anchors])["text"])) == ["bear 0", "bear 1"]
    manifest = (tmp_path / "set/manifest.json").read_text()
    (tmp_path / "set/manifest.json").write_text(manifest.replace('"concept": "Bär"', '"concept": "Ba\u0308r"'))
    assert load_anchors(tmp_path / "set").concepts("text") == ["Bär", "Bär"]


def test_a_wide_table_is_read_at_once(tmp_path: Path):
    """Seconds of this process alone; with a look at one column after the other they were 5, and 0.6 at once."""
    header = ",".join(f"gene{i}" for i in range(765))
    for concept in ("cat", "dog", "elk"):
        rows = [",".join(f"{i}.{ord(concept[0]) + j}" for j in range(765)) for i in range(9)]
        put(tmp_path / "sources", f"tabular/{concept}/rows.csv", "\n".join([header, *rows]))
    start = process_time()
    made = build(tmp_path / "sources", tmp_path / "set", name="wide", terms=TERMS)
    assert process_time() - start < 2
    assert len(made) == 27
    assert len(find_modality("tabular").read_anchor(made.folder / "tabular/elk-9.csv").columns) == 765


def test_a_row_has_the_number_that_its_table_decides(tmp_path: Path):
    """Alone, 1,234 would be refused, and 1.234 be little more than one."""
    put(tmp_path / "sources", "tabular/cat/rows.csv", "mass;note\n1,234;NA\n3,5;3 m\n")
    made = build(tmp_path / "sources", tmp_path / "set", name="mine", terms=TERMS)
    assert [row.values[0] for row in made.contents(find_modality("tabular"))] == [1.234, 3.5]
    put(tmp_path / "sources", "tabular/cat/rows.csv", "mass;note\n1.234;NA\n512;3 m\n")
    with pytest.raises(DataError, match=r"rows\.csv: column 'mass' has numbers with thousands separators"):
        build(tmp_path / "sources", tmp_path / "other", name="mine", terms=TERMS)
