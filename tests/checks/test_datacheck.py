"""`fedgram data check`: every fault that it knows, made once."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from fedgram.anchors.build import build
from fedgram.checks.data import check
from fedgram.checks.data.exports import suspicions
from fedgram.cli.main import app
from fedgram.config.site import Reading
from fedgram.data.pixels import Picture
from fedgram.data.rows import Row
from fedgram.records import Sample
from kits import job_folder
from masked_toy import four
from PIL import Image
from site_data import save_bert, write_image
from toy import ROOT, Toy, few_positions, write_site_file
from typer.testing import CliRunner

TOKENIZERS = {"image": "efficientnet-lite0-map", "genomics": "kmer", "tabular": "numeric"}
COMMON = f"""
anchors = "{ROOT / "anchors/carnivora/train"}"
"""


@pytest.fixture(autouse=True, scope="module")
def _small_text_encoder(tmp_path_factory: pytest.TempPathFactory) -> None:
    words = ["text", "of", "bear", "elk", "report", "canidae", "felidae", *"0123456789"]
    TOKENIZERS["text"] = save_bert(tmp_path_factory.mktemp("encoder") / "bert", words)


def site(folder: Path, settings: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    modality = settings.partition('modality = "')[2].partition('"')[0]
    (folder / "site.toml").write_text(f'tokenizer = "{TOKENIZERS[modality]}"\n{COMMON}{settings}')
    return folder / "site.toml"


def texts(folder: Path, rows: list[str], settings: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.csv").write_text("\n".join(["id,text,concept,group", *rows]) + "\n")
    return site(folder, f'modality = "text"\ndata = "{folder / "notes.csv"}"\n{settings}')


def good_rows(each: int = 40) -> list[str]:
    names = ("Canidae", "Felidae")
    return [f"{c}{i},text {i} of {c},{c},{c}{i // 2}" for c in names for i in range(each)]


def found(path: Path) -> dict[str, str]:
    """Level by text of every finding; each has a remedy."""
    findings = check(path).findings
    assert all(finding.remedy for finding in findings if finding.level != "ok")
    return {finding.text: finding.level for finding in findings}


def test_nothing_to_complain_of(tmp_path: Path):
    assert found(texts(tmp_path, good_rows())) == {}
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "site.toml")])
    assert result.exit_code == 0, result.output
    for text in ("train", "Canidae", "never sent", "nothing to complain of"):
        assert text in result.output
    assert result.output.count(" of Canidae ") == 5  # a preview, not the data


BEARS = [f"u{i},bear {i},Ursidae,u" for i in range(12)]
ELKS = [f"e{i},elk {i},Cervidae,e{i // 2}" for i in range(40)]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (good_rows(6), "fewer than 10 training samples of Canidae, Felidae"),
        (good_rows(6), "test samples: a test metric says little"),
        ([*good_rows(400), *BEARS[:1]], "280 training samples of Felidae and 1 of Ursidae"),
        ([*good_rows(), *BEARS], "never tested: Ursidae"),
        ([*good_rows(), *BEARS], "never validated: Ursidae"),
        ([f"{row}-{i}" for i, row in enumerate(good_rows())], "a group of its own"),
        ([*good_rows(), *ELKS], "no text anchor of Cervidae"),
    ],
)
def test_warnings_of_labels(rows: list[str], text: str, tmp_path: Path):
    (level,) = [level for finding, level in found(texts(tmp_path, rows)).items() if text in finding]
    assert level == "warning"


def test_copies_across_the_split_and_with_two_labels(tmp_path: Path):
    rows = good_rows()
    copies = [f"copy{i},text {i} of Canidae,Canidae,other{i}" for i in range(40)]
    findings = found(texts(tmp_path, [*rows, *copies, "torn,text 3 of Felidae,Canidae,Felidae1"]))
    (across,) = [text for text in findings if "in more than one split" in text]
    assert "notes.csv, row " in across
    assert "text 3" not in across
    assert any(text.startswith("1 contents have two labels") for text in findings)


def test_a_group_on_both_sides_is_an_error_of_its_own(tmp_path: Path):
    rows = [row + (",train" if i % 2 else ",test") for i, row in enumerate(good_rows())]
    path = texts(tmp_path, rows)
    (tmp_path / "notes.csv").write_text((tmp_path / "notes.csv").read_text().replace("group\n", "group,split\n"))
    result = CliRunner().invoke(app, ["data", "check", str(path)])
    assert result.exit_code == 1
    assert "one group is in test and in train" in result.output
    assert "row 1" in result.output
    assert "remedy" in result.output


def test_failures_end_with_1(tmp_path: Path):
    for name, rows in {
        "one class": [f"{i},t{i},Canidae,{i}" for i in range(30)],
        "no anchor": [row.replace("Canidae", "elk").replace("Felidae", "owl") for row in good_rows()],
    }.items():
        path = texts(tmp_path / name, rows)
        assert "failure" in found(path).values()
        assert CliRunner().invoke(app, ["data", "check", str(path)]).exit_code == 1
    assert CliRunner().invoke(app, ["data", "check", str(tmp_path / "nowhere.toml")]).exit_code == 1


def test_data_without_concepts(tmp_path: Path):
    rows = [f"{i},text {i},{i % 7}.5,{i // 2}" for i in range(60)]
    path = texts(tmp_path, rows, 'task = "regression"\n[columns]\ntarget = "concept"\nconcept = "nowhere"\n')
    text = (tmp_path / "notes.csv").read_text()
    assert CliRunner().invoke(app, ["data", "check", str(path)]).exit_code == 1  # named, and not there
    path.write_text(path.read_text().replace('concept = "nowhere"\n', "").replace('"concept"', '"days"'))
    (tmp_path / "notes.csv").write_text(text.replace("concept", "days"))
    assert list(found(path).values()) == ["ok"]
    output = CliRunner().invoke(app, ["data", "check", str(path)]).output
    assert "days" in output
    assert "(0.5 … 6.5)" in output
    path.write_text(path.read_text().replace("carnivora/train", "carnivora/nowhere"))
    assert list(found(path).values()) == ["failure"]  # anchors are needed all the same


def table(folder: Path, lines: list[str], anchors: str, settings: str = "") -> Path:
    """A site with a table and with anchors of its own: a line of each is a row."""
    for concept in ("Canidae", "Felidae"):
        path = folder / "public" / "tabular" / concept / "rows.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        header, *rows = anchors.split()
        path.write_text("\n".join([header, *(f"{row}{concept == 'Canidae':d}" for row in rows)]))
    made = build(folder / "public", folder / "own", name="own", terms={"licence": "CC0", "source": "made"})
    (folder / "t.csv").write_text("\n".join(lines))
    columns = f'[columns]\ngroup = "patient"\n{settings}'
    path = site(folder, f'modality = "tabular"\ndata = "{folder / "t.csv"}"\n{columns}')
    path.write_text(path.read_text().replace(str(ROOT / "anchors/carnivora/train"), str(made.folder)))
    return path


def test_columns_of_a_table(tmp_path: Path):
    rng = np.random.default_rng(0)
    lines = ["id,concept,patient,age,same,date,stage,sparse,again,weight,empty"]
    for i in range(60):
        stage = "IV" if i == 59 else "I"
        concept, few = ("Canidae", "Felidae")[i % 2], i if i < 9 else ""
        weight = -99 if i % 7 == 0 else rng.integers(40, 90)
        cells = (i, concept, i // 2, rng.integers(90), 7, f"day {i}", stage, few, i % 2, weight)
        lines.append(",".join(map(str, cells)) + ",")
    anchors = "age,same,date,stage,sparse,again,weight{} 1,,,,,,{} 2,,,,,,{}"
    findings = found(table(tmp_path / "empty", lines, anchors.format(",empty", ",", ",")))
    assert findings["column empty: no value in any training row"] == "failure"
    path = table(tmp_path / "good", [line.removesuffix(",empty") for line in lines], anchors.format("", "", ""))
    findings = found(path)
    assert set(findings.values()) == {"warning"}
    for text in (
        "column same: the same in all training rows",
        "column sparse: more than 50% missing",
        "column date: nearly every row has a category of its own",
        "column again: says the target, one value for each",
        "column weight: a code such as -99 or 999 among the numbers",
        "categories that are not known from the training rows count as unknown: date in 18 of 60 rows",
    ):
        assert findings[text] == "warning"
    output = CliRunner().invoke(app, ["data", "check", str(path)]).output
    assert "5 columns of numbers: age, same, sparse, again, weight" in output
    assert "2 columns of categories: date, stage" in output
    remedies = [one.remedy or "" for one in check(path).findings if one.text.startswith("column ")]
    assert sum("take it out of the table and of the anchors" in remedy for remedy in remedies) == 4


@pytest.mark.parametrize(
    ("form", "told"),
    [
        *(("{} %", True), ("<{}", True), ("{},5 mg/l", True), ("{}mmHg", True), ("{:02}.03.2021", True)),
        *(("2021-03-{:02} 08:30", True), ("{}", True), ("{}q1", False)),
    ],
)
def test_numbers_that_are_read_as_categories(form: str, told: bool, tmp_path: Path):
    lines = ["id;concept;patient;age;ef"]
    lines += [f"{i};{('Canidae', 'Felidae')[i % 2]};{i};{i % 50}.5;{form.format(1 + i % 15)}" for i in range(90)]
    lines += [f"{90 + i};Canidae;{90 + i};1.5;n.d." for i in range(95)]
    text = "column ef: numbers with words, units or signs, or dates: each value is a category of its own"
    assert (text in found(table(tmp_path, lines, "age,ef 1,{} 2,{}"))) == told
    assert text not in found(table(tmp_path / "coded", lines, "age,ef 1,{} 2,{}", 'categories = ["ef"]\n'))


@pytest.mark.parametrize(("group", "level"), [("id", "warning"), ("patient", None)])
@pytest.mark.parametrize("name", ["id", "barcode"])
def test_a_feature_that_names_the_patient(group: str, level: str | None, name: str, tmp_path: Path):
    header, *rows = measured()
    lines = [f"{header},record_id", *(f"{row},{i // 4}" for i, row in enumerate(rows))]
    path = table(tmp_path, lines, "age,weight,record_id 1,2,3 3,4,5")
    path.write_text(path.read_text().replace('group = "patient"', f'group = "{group}"\nid = "{name}"'))
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("id,", f"{name},", 1))
    levels = [level for text, level in found(path).items() if "record_id: named like an id" in text]
    assert levels == [level] * (level is not None)


def test_images_and_masks_that_cannot_be_used(tmp_path: Path):
    for i in range(20):
        write_image(tmp_path / "images" / f"p{i // 2}" / f"{i}.png", i)
        mask = tmp_path / "masks" / f"p{i // 2}" / f"{i}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(28, dtype=np.uint8)).save(mask)
    path = site(tmp_path, f'modality = "image"\ntask = "segmentation"\ndata = "{tmp_path}"\n')
    assert "failure" not in found(path).values()
    Image.fromarray(np.eye(14, dtype=np.uint8)).save(tmp_path / "masks" / "p0" / "0.png")
    for i in range(2, 8):
        (tmp_path / "images" / f"p{i // 2}" / f"{i}.png").write_bytes(b"no picture")
    findings = found(path)
    assert sum(level == "failure" for level in findings.values()) == 4  # three by name and how many more
    assert "4 more images, masks or recordings cannot be used" in findings
    shutil.rmtree(tmp_path / "masks")
    assert CliRunner().invoke(app, ["data", "check", str(path)]).exit_code == 1


def test_the_demo_s_own_data():
    for modality in ("image", "text", "genomics", "tabular"):
        assert not check(ROOT / "provisioning/simulator/local/fedgram" / f"hosp-{modality}.toml").failed


def paired(folder: Path, ids: list[str], reports: list[str] | None = None) -> Path:
    """Good texts with a second modality: texts again, so that no image encoder is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    reports = reports or [f"report {name}" for name in ids]
    lines = [f"{name},{report},{name}" for name, report in zip(ids, reports, strict=True)]
    (folder / "reports.csv").write_text("\n".join(["id,text,group", *lines]) + "\n")
    bridge = (
        f'[bridge]\nmodality = "text"\ndata = "{folder / "reports.csv"}"\ntokenizer = "{TOKENIZERS["text"]}"\n'
    )
    return texts(folder, good_rows(), bridge)


def test_pairs_are_counted(tmp_path: Path):
    path = paired(tmp_path, [row.split(",")[0] for row in good_rows()])
    assert found(path) == {}
    output = CliRunner().invoke(app, ["data", "check", str(path)]).output
    assert "paired with text" in output
    assert re.search(r"pairs\W+56\W+8\W+16\b", output)


def test_pairs_that_say_little_or_are_copies(tmp_path: Path):
    ids = [row.split(",")[0] for row in good_rows()]
    parts = check(paired(tmp_path / "all", ids)).parts
    trained, tested = ([s.id for s in parts[part]] for part in ("train", "test"))
    few = found(paired(tmp_path / "few", trained[:5] + tested[:3]))
    assert few == {"3 test pairs: pair_recall says little": "warning"}
    same = found(paired(tmp_path / "same", ids, ["one report"] * len(ids)))
    assert any("in more than one split" in text for text in same)


def test_tables_without_pairs_end_with_1(tmp_path: Path):
    done = CliRunner().invoke(app, ["data", "check", str(paired(tmp_path, ["x", "y"]))])
    assert done.exit_code == 1
    assert "no pairs" in done.output


def failures(path: Path) -> list[str]:
    """The failures, with which the command ends with 1."""
    assert CliRunner().invoke(app, ["data", "check", str(path)]).exit_code == 1
    return [text for text, level in found(path).items() if level == "failure"]


def measured(names: str = "age,weight", each: int = 30) -> list[str]:
    rng = np.random.default_rng(0)
    cells = rng.integers(1, 90, (2 * each, len(names.split(","))))
    rows = [
        f"{i},{('Canidae', 'Felidae')[i % 2]},{i // 2}," + ",".join(map(str, row)) for i, row in enumerate(cells)
    ]
    return [f"id,concept,patient,{names}", *rows]


def test_columns_that_the_anchors_lack(tmp_path: Path):
    path = table(tmp_path, measured("age,height"), "age,weight 1,2 3,4")
    (first, *_) = failures(path)
    assert re.search(r"own, slot Canidae-1: column 'height' is missing", first)
    path = table(tmp_path / "words", measured(), "age,weight 1,2 3,x")
    assert [re.sub(".*slot", "", text) for text in failures(path)] == [
        " Canidae-2: column 'weight' is not a number",
        " Felidae-2: column 'weight' is not a number",
    ]


def test_a_record_without_bases(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [f"{c}{i}" for c in ("Canidae", "Felidae") for i in range(30)]
    records = [f">{name}\n{''.join(rng.choice(list('ACGT'), 60))}\n" for name in names]
    records[7] = f">{names[7]}\nNNNNACGTANNN\n"
    (tmp_path / "r.fasta").write_text("".join(records))
    rows = [f"{name},{name[:7]},{name[:-1]}" for name in names]
    (tmp_path / "r.csv").write_text("\n".join(["id,concept,group", *rows]))
    path = site(tmp_path, f'modality = "genomics"\ndata = "{tmp_path / "r.fasta"}"\n')
    (failure,) = failures(path)
    assert failure.endswith("r.csv, row 8: no run of 6 unambiguous bases in a sequence")


def test_a_text_without_a_token(tmp_path: Path):
    (failure,) = failures(texts(tmp_path, [*good_rows(), "x,\u200b,Canidae,x"]))
    assert failure == f"{tmp_path / 'notes.csv'}, row 81: content 1 of 1 has no token"


def test_more_tokens_than_a_backbone_has_positions(tmp_path: Path):
    path = site(tmp_path, f'modality = "genomics"\ndata = "{tmp_path / "r.fasta"}"\n')
    names = [f"{c}{i}" for c in ("Canidae", "Felidae") for i in range(30)]
    (tmp_path / "r.fasta").write_text("".join(f">{name}\n{'ACGTTGCA' * 9}\n" for name in names))
    rows = [f"{name},{name[:7]},{name[:-1]}" for name in names]
    (tmp_path / "r.csv").write_text("\n".join(["id,concept,group", *rows]))
    assert not check(path).failed
    path.write_text(f'{path.read_text()}[backbones]\nshort = "{few_positions(tmp_path)}"\n')
    assert failures(path) == ["tokenizer 'kmer': 6 tokens a sample"]
    path.write_text(f'{path.read_text()}long = "{tmp_path / "elsewhere"}"\n')
    assert "failure" not in found(path).values()  # a job may have the other one
    assert found(path)["tokenizer 'kmer': 6 tokens a sample"] == "warning"


def test_a_site_is_opened_for_a_job(toy: Toy, tmp_path: Path):
    path, job = tmp_path / "red.toml", job_folder(toy, tmp_path / "job")
    write_site_file(path, toy.sites["red"])
    last = check(path, job).findings[-1]
    assert (last.level, last.text) == ("ok", "opened for job, as training does: 56 samples train")
    write_site_file(path, replace(toy.sites["red"], backbones={"tiny": str(tmp_path / "nowhere")}))
    asked = ["data", "check", str(path)]
    assert CliRunner().invoke(app, asked).exit_code == 0  # a job may have another backbone
    result = CliRunner().invoke(app, [*asked, "--job", str(job)])
    assert result.exit_code == 1
    assert "no folder" in result.output


def test_a_site_is_opened_for_a_masked_job_with_a_secret_that_nobody_guesses(toy: Toy, tmp_path: Path):
    """Its own, or the one that is yet to be drawn."""
    run, path = four(toy), tmp_path / "red.toml"
    job = job_folder(run, tmp_path / "job")
    write_site_file(path, replace(run.sites["red"], secret=None))
    assert check(path, job).findings[-1].level == "ok"
    write_site_file(path, replace(run.sites["red"], secret="abc"))
    assert check(path, job).findings[-1].text.endswith("a secret of 3 characters, in a masked job")


def test_a_device_that_is_not_there(tmp_path: Path):
    (failure,) = failures(texts(tmp_path, good_rows(), 'device = "cuda:99"\n'))
    assert "cuda:99" in failure


def test_an_unknown_encoder_and_too_few_anchors(tmp_path: Path):
    path = table(tmp_path, measured(), "age,weight 1,2 3,4")
    path.write_text(path.read_text().replace('"numeric"', '"nothing"'))
    assert failures(path) == ["tokenizer 'nothing': unknown"]
    path = table(tmp_path / "few", measured(), "age,weight 1,2")
    (failure,) = failures(path)
    assert "2 slots for modality 'tabular'" in failure


def test_many_columns_are_shown_folded(tmp_path: Path):
    names = ",".join(f"gene{i}" for i in range(40))
    path = table(tmp_path, measured(names), f"{names} {','.join('1' * 40)} {','.join('2' * 40)}")
    output = CliRunner().invoke(app, ["data", "check", str(path)]).output
    assert "40 columns of numbers: gene0, " in output
    assert "gene11 and 28 more" in " ".join(output.split())
    assert "gene12" not in output


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            [f"x{i},a FELIDAE {i},felidae,x{i // 2}" for i in range(40)],
            "Felidae and felidae differ only in their spelling",
        ),
        ([f"x{i},unknown {i},NA,x{i // 2}" for i in range(40)], "NA as the name of a class or group: 40 samples"),
        ([f"x{i},text,Canidae,NA" for i in range(40)], "NA as the name of a class or group: 40 samples"),
        (
            [f"x{i},a BÃ¤r {i},Canidae,x{i // 2}" for i in range(40)],
            "40 texts have letters that were read in a wrong",
        ),
        (
            [f"x{i},a B\ufffdr {i},Canidae,x{i // 2}" for i in range(40)],
            "40 texts have letters that were read in a wrong",
        ),
        ([f"x{i},some text {i},Canidae,1.2{i}E+12" for i in range(40)], "40 ids or groups like 1.23E+12"),
    ],
)
def test_marks_that_programs_leave(rows: list[str], text: str, tmp_path: Path):
    levels = [level for finding, level in found(texts(tmp_path, [*good_rows(), *rows])).items() if text in finding]
    assert levels == ["warning"]


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["CD4+", "CD4-"], []),
        (["HER2+/ER-", "HER2-/ER-"], []),
        (["grade 1.5", "grade 15", "P1__1", "P11"], []),  # between digits a sign may be one of the number
        (["T-cell", "T cell", "t_cell"], [["T cell", "T-cell", "t_cell"]]),
        (["P01", "p01", "P. 01", "P02"], [["P. 01", "P01", "p01"]]),
        (["17", "17.0", "017", "170", "1.7"], [["017", "17", "17.0"]]),
        (["Crohn's", "Crohn’s"], [["Crohn's", "Crohn’s"]]),
        (["non-small", "non–small", "CD4–", "CD4"], [["non-small", "non–small"]]),
        (["H₂", "H2"], [["H2", "H₂"]]),
        (["benign", "benign\u200b"], [["benign", "'benign\\u200b'"]]),
    ],
)
def test_names_that_differ_only_in_their_spelling(names: list[str], alike: list[list[str]]):
    """By classes and by groups: a patient of two names would be two patients."""
    reading, text = Reading(), "{} differ only in their spelling"
    samples = [Sample(id=name, concept=name, group="g", content="x") for name in names]
    expected = [text.format(" and ".join(one)) for one in alike]
    assert [finding.text for finding in suspicions(reading, {"train": samples})] == expected
    samples = [Sample(id=name, concept="c", group=name, content="x") for name in names]
    expected = [text.format(f"groups {' and '.join(one)}") for one in alike]
    assert [finding.text for finding in suspicions(reading, {"train": samples})] == expected


def test_many_groups_of_two_spellings_are_one_finding():
    samples = [Sample(id="", concept="", group=f"{p}{i}", content="x") for p in "Pp" for i in range(5)]
    (finding,) = suspicions(Reading(), {"train": samples})
    assert finding.text == "groups P0 and p0 differ only in their spelling (and 4 more such)"


DAYS = [float(i * i % 41) for i in range(20)]  # all distinct, in no order


@pytest.mark.parametrize(
    ("cells", "targets", "tells"),
    [
        ([0.5 + i * 7 % 20 for i in range(20)], DAYS, False),  # any measurement: distinct values, distinct targets
        ([f"p{i}" for i in range(20)], DAYS, False),
        ([-2 * day for day in DAYS], DAYS, True),  # the target again, in another unit
        ([math.nan, *DAYS[1:]], DAYS, True),
        ([*DAYS[:5], *[math.nan] * 15], DAYS, False),  # too few to say
        ([["low", "high"][i % 2] for i in range(20)], [1.0, 2.5] * 10, True),
        ([1.0, 0.0] * 10, ["a", "b"] * 10, True),
        ([1.0] * 20, ["a"] * 20, False),
    ],
)
def test_columns_that_say_the_target(cells: list, targets: list, tells: bool):
    samples = [
        Sample(id=str(i), concept="", group="g", content=Row(("x",), (cell,), ""), target=target)
        for i, (cell, target) in enumerate(zip(cells, targets, strict=True))
    ]
    found = [finding.text for finding in suspicions(Reading(task="regression"), {"train": samples})]
    assert found == ["column x: says the target, one value for each"] * tells


def test_labels_with_commas(tmp_path: Path):
    rows = [f"{row},{('a', 'b', 'a;b')[i % 3]}" for i, row in enumerate(good_rows())]
    path, notes = texts(tmp_path, rows, 'task = "multilabel"\n'), tmp_path / "notes.csv"
    notes.write_text(notes.read_text().replace("group\n", "group,target\n"))
    assert not any("commas" in text for text in found(path))
    notes.write_text(notes.read_text().replace(",a;b\n", ',"a,b"\n'))
    assert any("labels with commas" in text for text in found(path))


@pytest.mark.parametrize("joint", ["Canidae; Felidae", '"Felidae, Canidae"', "Canidae|Felidae"])
def test_classes_that_are_several_of_the_others(joint: str, tmp_path: Path):
    rows = [f"x{i},two {i},{joint},x{i}" for i in range(20)]
    shown = f"{joint.strip(chr(34))}: several of the other classes in one"
    assert found(texts(tmp_path, [*good_rows(), *rows]))[shown] == "warning"


def test_ct_without_a_window(tmp_path: Path):
    scan = next(Path(pydicom.data.__file__).parent.glob("test_files/CT_small.dcm"))
    for i, concept in enumerate(("Canidae", "Felidae") * 10):
        name = tmp_path / "scans" / concept / f"p{i // 2}" / f"1.2.{i}"
        name.parent.mkdir(parents=True, exist_ok=True)
        dataset = pydicom.dcmread(scan)
        dataset.RescaleIntercept = -1000 - i
        dataset.save_as(name)
    for window, warned in (("", True), ("window = [-160, 240]\n", False)):
        path = site(tmp_path, f'modality = "image"\ndata = "{tmp_path / "scans"}"\n{window}')
        assert any("CT without a window" in text for text in found(path)) == warned


@pytest.mark.parametrize(("patients", "warned"), [(["P1", "P1", "P2"], True), (["ANON"] * 3, False)])
def test_patients_that_only_the_dicom_files_know(patients: list[str], warned: bool, tmp_path: Path):
    dataset = pydicom.dcmread(next(Path(pydicom.data.__file__).parent.glob("test_files/CT_small.dcm")))
    samples = []
    for name, dataset.PatientID in zip("abc", patients, strict=True):
        dataset.save_as(tmp_path / name)
        samples.append(Sample(id=name, concept="c", group=name, content=Picture(tmp_path / name)))
    told = [finding.text for finding in suspicions(Reading(window=(0, 1)), {"train": samples})]
    text = "DICOM files of one patient are in several groups, and may be on two sides of the split: 1 such"
    assert told == [text] * warned


def test_an_unreadable_image_in_the_preview(tmp_path: Path):
    for i in range(40):
        write_image(tmp_path / "x" / ("Canidae", "Felidae")[i % 2] / f"p{i // 2}" / f"{i}.png", i)
    for path in (tmp_path / "x" / "Canidae").rglob("*.png"):
        path.write_bytes(b"no picture")
    path = site(tmp_path, f'modality = "image"\ndata = "{tmp_path / "x"}"\n')
    result = CliRunner().invoke(app, ["data", "check", str(path)])
    assert result.exit_code == 1
    assert "17 more images, masks or recordings cannot be used" in result.output
