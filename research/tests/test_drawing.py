"""Anchors drawn from a source, wide rows in blocks, and packages that are not what they should be."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest
from fedgram.anchors import load_anchors
from fedgram.data.rows import Row
from fedgram.errors import DataError
from fedgram.modalities.tabular import MODALITY as PLAIN
from fedgram.records import Sample
from hypothesis import given
from hypothesis import strategies as st

from research.evidence.federations import fetch
from research.evidence.federations.blocks import MODALITY, Blocks
from research.evidence.federations.digits import draw_languages
from research.evidence.federations.digits_sources import DIGITS
from research.evidence.federations.drawing import draw, write_drawn
from research.evidence.federations.items import Item
from research.evidence.federations.pathogens_sources import CODES, GENERA


def items_of(groups: dict[str, list[int]]) -> list[Item]:
    """By concept, the sizes of its groups."""
    return [
        Item(f"{concept}-{group}-{number}", concept, f"{concept}-{group}", f"text {concept} {group} {number}")
        for concept, sizes in groups.items()
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=9), slots=st.integers(1, 3))
def test_anchors_share_no_group_with_each_other_or_a_site(sizes, slots):
    items = items_of({"a": sizes, "b": [1, 1]})
    drawn = draw(items, slots)
    train, heldout = drawn.anchors["train"]["a"], drawn.anchors["heldout"]["a"]
    groups = [i.group for i in (*train, *heldout)]
    assert len(set(groups)) == len(groups)
    assert not set(groups) & {i.group for i in drawn.rest}
    assert len(drawn.rest) + sum(1 for i in items if i.group in groups) == len(items)
    assert len({i.group for i in drawn.rest if i.concept == "a"}) >= 2
    assert not drawn.anchors["train"]["b"]
    assert slots >= len(train) >= len(heldout) >= len(train) - 1


def test_small_groups_are_the_anchors():
    """Five groups: two stay, of the other three two are held out from training at most; the large ones stay."""
    drawn = draw(items_of({"a": [9, 1, 2, 8, 3]}), 2)
    assert [i.group for i in drawn.anchors["train"]["a"]] == ["a-1", "a-2"]
    assert [i.group for i in drawn.anchors["heldout"]["a"]] == ["a-4"]
    assert {i.group for i in drawn.rest} == {"a-0", "a-3"}


def test_drawn_anchors_are_a_set_that_fedgram_reads(tmp_path):
    drawn = {"text": draw(items_of({"a": [1] * 6, "b": [1] * 3}), 2)}
    folders = write_drawn(tmp_path, "test", drawn, {"text": ("CC0-1.0", "made in the test")})
    assert folders == write_drawn(tmp_path, "test", drawn, {"text": ("CC0-1.0", "made in the test")})
    train, heldout = (load_anchors(tmp_path / f) for f in folders)
    assert [s.id for s in train.slots] == ["a-1", "a-2", "b-1"]
    assert [s.id for s in heldout.slots] == ["a-1", "a-2"]
    assert train.slots[0].files["text"].source.startswith("made in the test: a-")


def test_languages_are_drawn_whole():
    words = [
        Item(f"l{n}-{kind}-{d}", digit, f"l{n}", f"{n} {kind} {digit}")
        for n in range(7)
        for kind in ("cardinal", "ordinal")
        for d, digit in enumerate(DIGITS)
        if n or d  # the first language lacks a zero: no anchors come from it
    ]
    drawn = draw_languages(tuple(words))
    used = {part: {i.group for own in by.values() for i in own} for part, by in drawn.anchors.items()}
    assert [len(found) for found in used.values()] == [2, 2]
    assert "l0" not in used["train"] | used["heldout"]
    assert not used["train"] & used["heldout"]
    assert {i.group for i in drawn.rest} == {f"l{n}" for n in range(7)} - used["train"] - used["heldout"]
    assert all([i.concept for i in own] == [d, d] for by in drawn.anchors.values() for d, own in by.items())


def row(values: dict[str, float]) -> Row:
    return Row(tuple(values), tuple(values.values()), "row 1")


def test_blocks_by_hand():
    """34 columns in 16 blocks of 3: the row as it stands, then zeros; another order of columns is no matter."""
    values = {f"c{i}": float(i) for i in range(34)}
    tokens = Blocks([row(values)])([row(values), row(dict(reversed(values.items())))])
    assert tokens.values.shape == (2, 16, 3)
    assert tokens.values[0].flatten().tolist() == [*map(float, range(34)), *[0.0] * 14]
    assert (tokens.values[0] == tokens.values[1]).all()
    assert tokens.mask.all()


def test_blocks_take_numbers_alone():
    tokenizer = Blocks([row({"a": 1.0, "b": 2.0})])
    with pytest.raises(DataError, match="a cell is not a number"):
        tokenizer([Row(("a", "b"), (1.0, "red"), "row 1")])
    with pytest.raises(DataError, match="a cell is missing"):
        tokenizer([row({"a": 1.0, "b": float("nan")})])
    with pytest.raises(DataError, match="no training rows"):
        Blocks([])


def test_other_columns_are_another_tokenizer():
    assert Blocks([row({"a": 1.0})]).identity != Blocks([row({"b": 1.0})]).identity


def test_an_anchor_is_read_as_fedgram_reads_it(tmp_path):
    path = tmp_path / "anchor.csv"
    path.write_text("a,b,c\n1,0,2.5\n")
    own, plain = MODALITY.read_anchor(path), PLAIN.read_anchor(path)
    assert (own.columns, own.values) == (plain.columns, plain.values)
    assert MODALITY.fingerprint(own) == PLAIN.fingerprint(plain)
    tokens = MODALITY.tokenizer("blocks", [Sample(id="1", concept="a", group="1", content=own)])([own])
    np.testing.assert_array_equal(tokens.values.flatten()[:3], [1.0, 0.0, 2.5])


@pytest.mark.parametrize("content", ["", "a,b\n", "a,b\n1,x\n", "a,b\n1,2\n3,4\n"])
def test_an_anchor_that_is_none(tmp_path, content):
    path = tmp_path / "anchor.csv"
    path.write_text(content)
    with pytest.raises(DataError, match="one row of numbers"):
        MODALITY.read_anchor(path)


def test_species_codes_are_unambiguous():
    """UniProt's codes are unique; those of other genera with the same letters (STRCO, CHLTE) are not in it."""
    with CODES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({r["code"] for r in rows}) == len(rows) == 173
    assert {r["genus"] for r in rows} == set(GENERA)
    assert all(r["species"].startswith(r["genus"] + " ") for r in rows)
    assert not {"STRCO", "STRAW", "CHLTE", "CHLRE", "SALRD", "MYCMD"} & {r["code"] for r in rows}
    assert Counter(r["genus"] for r in rows)["Streptococcus"] == 37


def test_no_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(DataError, match="PIP_INDEX_URL"):
        fetch.fetch("num2words==0.5.14", tmp_path)
    assert not list((tmp_path / "downloads").iterdir())


def test_a_wheel_of_other_content(tmp_path):
    folder = tmp_path / "downloads" / "num2words-0-5-14"
    folder.mkdir(parents=True)
    (folder / "num2words.whl").write_bytes(b"something else")
    with pytest.raises(DataError, match="sha256"):
        fetch.fetch("num2words==0.5.14", tmp_path)
