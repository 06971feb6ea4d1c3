"""Which samples of a bridge site are pairs, and what keeps two tables from being paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fedgram.config.site import BridgeConfig, Columns, SiteConfig
from fedgram.errors import ConfigError, DataError
from fedgram.records import Sample
from fedgram.sites.pairs import read_pairs

SITE = SiteConfig(modality="text", data="", tokenizer="", anchors="")
TRAIN, VALIDATION, TEST = ["a", "b", "c", "d"], ["v"], ["x", "y"]


def first() -> dict[str, list[Sample]]:
    """Samples of the first modality by split, each a group of its own."""
    names = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return {
        part: [Sample(id=name, concept="oak", group=name, content=name) for name in ids]
        for part, ids in names.items()
    }


def paired(folder: Path, rows: list[str], header: str = "id,text,group", **settings: object) -> SiteConfig:
    """A site whose second modality is a table of texts."""
    path = folder / "second.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return replace(SITE, bridge=BridgeConfig("text", str(path), "minilm", **settings))  # type: ignore[arg-type]


def read(config: SiteConfig) -> dict[str, list[tuple[int, str, str]]]:
    found = read_pairs("red", config, first())
    return {
        part: [(pair.row, pair.sample.id, pair.sample.content) for pair in pairs] for part, pairs in found.items()
    }


def test_pairs_are_those_whose_id_is_in_both_on_the_side_of_the_first(tmp_path: Path):
    rows = ["y,of y,1", "d,of d,2", "stranger,of nobody,3", "b,of b,4", "v,of v,5"]
    assert read(paired(tmp_path, rows)) == {
        "train": [(1, "b", "of b"), (3, "d", "of d")],
        "validation": [(0, "v", "of v")],
        "test": [(1, "y", "of y")],
    }


def test_a_site_without_a_bridge_has_none():
    assert read_pairs("red", SITE, first()) == {}


def test_the_second_needs_no_label(tmp_path: Path):
    """Neither a concept nor a target; a number that stands under `target` is not read either."""
    config = paired(
        tmp_path, ["a,of a,1,?", "b,of b,2,"], "id,text,group,target", columns=Columns(target="target")
    )
    samples = [pair.sample for pair in read_pairs("red", config, first())["train"]]
    assert [(s.concept, s.target, s.labels) for s in samples] == [("", None, ("",)), ("", None, ("",))]


def test_what_is_named_as_target_or_dropped_is_no_feature(tmp_path: Path):
    rows = ["a,1,0.5,7,9", "b,2,0.25,8,3"]
    columns = Columns(target="days", drop=("stage",))
    config = paired(tmp_path, rows, "id,group,mass,days,stage", columns=columns)
    bridge = replace(config.bridge, modality="tabular")  # type: ignore[type-var]
    pairs = read_pairs("red", replace(config, bridge=bridge), first())["train"]
    assert [(pair.sample.content.columns, pair.sample.content.values) for pair in pairs] == [
        (("mass",), (0.5,)),
        (("mass",), (0.25,)),
    ]


def test_names_of_columns_are_the_second_tables_own(tmp_path: Path):
    config = paired(tmp_path, ["a,of a,1", "b,of b,1"], "nr,note,patient")
    columns = Columns(id="nr", text="note", group="patient")
    bridge = replace(config.bridge, columns=columns)  # type: ignore[type-var]
    assert [pair[1] for pair in read(replace(config, bridge=bridge))["train"]] == ["a", "b"]


def test_images_in_a_folder_are_called_by_their_path(tmp_path: Path):
    from site_data import write_image

    names = ["oak/1.png", "oak/2.png", "pine/1.png"]
    for seed, name in enumerate(names):
        write_image(tmp_path / "images" / name, seed)
    config = replace(SITE, bridge=BridgeConfig("image", str(tmp_path / "images"), "efficientnet-lite0"))
    parts = {
        "train": [Sample(id=name, concept="oak", group=name, content="") for name in names[:2]],
        "validation": [],
        "test": [],
    }
    found = read_pairs("red", config, parts)["train"]
    assert [(pair.row, pair.sample.content.path.name) for pair in found] == [(0, "1.png"), (1, "2.png")]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["A,of a,1", "B,of b,2"],
            "id,text,group",
            r"(?s)red: bridge: no pairs.*spelled alike.*remedy.*\[columns\]",
        ),
        (
            ["a,of a,1", "x,of x,2"],
            "id,text,group",
            r"(?s)red: bridge: 1 of 2 pairs to train on.*at least 2.*remedy",
        ),
        (["x,of x,1", "y,of y,2"], "id,text,group", "0 of 2 pairs to train on"),
        (["of a,1", "of b,2"], "text,group", "(?s)missing column 'id'.*under \\[columns\\]"),
        (["a,of a", "b,of b"], "id,text", "missing column 'group'"),
        (["a,of a,1", "b,of b,2", "a,again,3"], "id,text,group", "duplicate id: row 3 repeats row 1"),
    ],
)
def test_tables_that_cannot_be_paired(rows: list[str], header: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        read(paired(tmp_path, rows, header))


def test_a_group_that_the_first_modality_tears_apart(tmp_path: Path):
    """By the second table a and x are one patient, of whom one sample would train and one test."""
    rows = ["a,of a,Ann", "b,of b,Bob", "x,of x,Ann"]
    with pytest.raises(DataError) as error:
        read(paired(tmp_path, rows))
    message = str(error.value)
    assert "one group of the second modality is in train and in test" in message
    assert "second.csv, row 1 and " in message
    assert "row 3" in message
    assert "remedy" in message
    assert "Ann" not in message
    left_to_the_first = paired(tmp_path, rows, columns=Columns(group="id"))
    assert [pair[1] for pair in read(left_to_the_first)["test"]] == ["x"]


def test_groups_of_unpaired_samples_do_not_matter(tmp_path: Path):
    """The stranger of Ann's group is not used, so it is on no side."""
    found = read(paired(tmp_path, ["a,of a,Ann", "b,of b,Bob", "stranger,-,Ann"]))
    assert len(found["train"]) == 2


def test_a_split_of_its_own_must_agree(tmp_path: Path):
    header = "id,text,group,split"
    agreed = paired(tmp_path, ["a,of a,1,train", "b,of b,2,train", "x,of x,3,test"], header)
    assert [len(pairs) for pairs in read(agreed).values()] == [2, 0, 1]
    rows = ["a,of a,1,train", "b,of b,2,train", "c,of c,4,test"]
    with pytest.raises(
        DataError, match=r"(?s)second\.csv, row 3: in test here, and in train in the first.*remedy"
    ):
        read(paired(tmp_path, rows, header))
    assert len(read(paired(tmp_path, rows, header, columns=Columns(split="")))["train"]) == 3


def test_a_modality_that_nobody_knows(tmp_path: Path):
    config = paired(tmp_path, ["a,of a,1", "b,of b,2"])
    bridge = replace(config.bridge, modality="smell")  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        read_pairs("red", replace(config, bridge=bridge), first())
