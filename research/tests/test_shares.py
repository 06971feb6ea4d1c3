"""Who gets which questions and captions: everything once, nobody nothing, and as α or the list says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from fedgram.data.captions import TABLE, read_captions
from fedgram.data.items import Caption, Question
from fedgram.data.vqa import read_vqa
from fedgram.errors import ConfigError, DataError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from research.partition import picture
from research.partition.__main__ import app
from research.partition.shares import Share, counts, deal, deal_by_list, write_shares
from research.scenes.data import write_scene_captions, write_scene_questions
from research.scenes.scenes import World

KINDS = ("yes/no", "number", "other")
EVEN = float("inf")


def questions(count: int, split: str = "") -> list[Question]:
    """Two questions on each picture, the pictures of three concepts in turn."""
    return [
        Question(
            id=f"{split}{i}",
            image=Path(f"{split}{i // 2}.png"),
            text="?",
            answers=("a",),
            answer="a",
            kind=KINDS[i % 3],
            concept=f"c{i // 2 % 3}",
            split=split,
        )
        for i in range(count)
    ]


def captions(count: int) -> list[Caption]:
    return [Caption(id=str(i), image=Path(f"{i}.png"), text="words", concept=f"c{i % 3}") for i in range(count)]


def ids(share: Share) -> tuple[set[str], set[str]]:
    return {q.id for q in share.questions}, {c.id for c in share.captions}


@given(
    sites=st.integers(1, 6),
    alpha=st.sampled_from([0.1, 0.5, 1.0, EVEN]),
    seed=st.integers(0, 50),
    by=st.sampled_from(["kind", "concept"]),
)
def test_everything_is_dealt_once_and_nobody_has_nothing(sites, alpha, seed, by):
    asked, said = questions(120), captions(60)
    shares = deal(asked, said, sites, alpha, seed, by)
    assert list(shares) == [f"site-{n}" for n in range(1, sites + 1)]
    assert Counter(q for share in shares.values() for q in share.questions) == Counter(asked)
    assert Counter(c for share in shares.values() for c in share.captions) == Counter(said)
    assert min(len(share.items) for share in shares.values()) >= 5


@pytest.mark.parametrize("by", ["kind", "concept"])
def test_the_order_of_the_items_does_not_matter(by):
    asked, said = questions(120), captions(60)
    mixed = random.Random(0).sample(asked, len(asked)), random.Random(1).sample(said, len(said))
    one, other = deal(asked, said, 4, 0.5, 3, by), deal(*mixed, 4, 0.5, 3, by)
    assert {s: ids(share) for s, share in one.items()} == {s: ids(share) for s, share in other.items()}
    assert {s: ids(share) for s, share in one.items()} != {
        s: ids(share) for s, share in deal(asked, said, 4, 0.5, 4, by).items()
    }


def test_what_is_said_of_a_picture_stays_together():
    shares = deal(questions(120), captions(60), 4, 0.5, 0, "concept")
    places: dict[Path, set[str]] = {}
    for site, share in shares.items():
        for item in share.items:
            places.setdefault(item.image, set()).add(site)
    assert {len(sites) for sites in places.values()} == {1}


def apart(alpha: float, by: str) -> float:
    """Mean total variation between what a site has and what there is."""
    dealt = [counts(deal(questions(360), [], 4, alpha, seed, by), by) for seed in range(6)]
    words = set().union(*(own for numbers in dealt for own in numbers.values()))
    return fmean(
        sum(abs(own[word] / own.total() - 1 / 3) for word in words) / 2
        for numbers in dealt
        for own in numbers.values()
    )


@pytest.mark.parametrize("by", ["kind", "concept"])
def test_alpha_says_how_far_sites_are_apart(by):
    distances = [apart(alpha, by) for alpha in (0.1, 1.0, EVEN)]
    assert distances[0] > distances[1] + 0.05
    assert distances[1] > distances[2] + 0.05
    assert distances[2] < 0.02


def test_every_site_is_tested_where_the_data_name_tests():
    asked = questions(90, "train") + questions(30, "test")
    for seed in range(5):
        for share in deal(asked, [], 3, 0.1, seed, "kind").values():
            assert {q.split for q in share.questions} == {"train", "test"}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"by": "colour"}, ConfigError, "colour"),
        ({"sites": 0}, ConfigError, "sites"),
        ({"sites": 40}, ConfigError, "40 sites"),
        ({"alpha": 0.0}, ConfigError, "alpha"),
        ({"asked": [], "said": []}, DataError, "nothing to deal"),
        ({"asked": questions(6) * 2}, DataError, "two questions have one id"),
        ({"said": captions(6) * 2}, DataError, "two captions have one id"),
        ({"asked": [replace(questions(1)[0], concept="")], "by": "concept"}, DataError, "no concept"),
        ({"said": [replace(c, split="test") for c in captions(60)], "by": "concept"}, DataError, "two splits"),
    ],
)  # fmt: skip
def test_what_cannot_be_dealt(wrong, error, message):
    given = {"asked": questions(60), "said": captions(30), "sites": 3, "alpha": 1.0, "by": "kind"} | wrong
    with pytest.raises(error, match=message):
        deal(given["asked"], given["said"], given["sites"], given["alpha"], 0, given["by"])


def test_by_list(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("id,site\n0,clinic-b\n1,clinic-a\n2,clinic-b\n")
    shares = deal_by_list(questions(3), captions(2), table)
    assert list(shares) == ["clinic-a", "clinic-b"]
    assert ids(shares["clinic-a"]) == ({"1"}, {"1"})
    assert ids(shares["clinic-b"]) == ({"0", "2"}, {"0"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id,site\n0,a\n1,a\n", "1 questions or captions have no site"),
        ("id,site\n0,a\n1,a\n2,a\n3,a\n", "no question or caption has this id"),
        ("id,site\n0,a\n1,a\n2,a\n2,b\n", "duplicate id"),
        ("id,site\n0,a\n1,a\n2,../b\n", "not a name for a site"),
        ("id,site\n0,a\n1,a\n2,\n", "'site' is blank"),
        ("id\n0\n", "missing column 'site'"),
    ],
)
def test_faults_of_a_list(tmp_path, rows, message):
    (tmp_path / "list.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        deal_by_list(questions(3), [], tmp_path / "list.csv")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_scene_questions(folder / "vqa", "train", 60, 1, World(), pixels=16)
    write_scene_captions(folder / "captions", 30, 2, World(), pixels=16)
    return folder


def test_what_is_written_is_read_again(source, tmp_path):
    asked = [replace(q, split="test" if n % 4 == 0 else "train") for n, q in enumerate(read_vqa(source / "vqa"))]
    shares = deal(asked, read_captions(source / "captions" / TABLE), 2, 0.5, 0, "kind")
    write_shares(tmp_path / "sites", shares)
    for site, share in shares.items():
        again = read_vqa(tmp_path / "sites" / site)
        assert {replace(q, image=Path()) for q in again} == {replace(q, image=Path()) for q in share.questions}
        assert {q.image.read_bytes() for q in again} == {q.image.read_bytes() for q in share.questions}
        texts = [c.text for c in read_captions(tmp_path / "sites" / site / TABLE)] if share.captions else []
        assert texts == [c.text for c in share.captions]
    with pytest.raises(ConfigError, match="not empty"):
        write_shares(tmp_path / "sites", shares)


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.output


def test_the_command(source, tmp_path):
    given = ("--questions", source / "vqa", "--captions", source / "captions" / TABLE)
    code, shown = run(tmp_path / "out", *given, "--sites", 3, "--alpha", "inf")
    assert code == 0, shown
    # 90 items, 30 a site: 10 of each topic's answer type, evenly
    assert [line.split("│")[-2].strip() for line in shown.splitlines() if "│ site-" in line] == ["30"] * 3
    with Image.open(tmp_path / "out" / "who-has-what.png") as drawn:
        assert drawn.width > 300
    assert len(read_vqa(tmp_path / "out" / "site-1")) == 20
    (tmp_path / "list.csv").write_text("id,site\n" + "".join(f"{i},s{i % 2}\n" for i in range(1, 61)))
    code, shown = run(tmp_path / "listed", *given, "--list", tmp_path / "list.csv", "--by", "concept")
    assert code == 0, shown
    assert len(read_vqa(tmp_path / "listed" / "s1")) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of --sites and --list"),
        (("--sites", 2, "--list", "x.csv"), "one of --sites and --list"),
        (("--sites", 2), "nothing to deal"),
        (("--sites", 2, "--by", "colour"), "kind or concept"),
    ],
)
def test_faults_of_the_command(tmp_path, options, message):
    code, shown = run(tmp_path / "out", *options)
    assert code == 1
    assert message in " ".join(shown.split())
    assert not (tmp_path / "out").exists()


def test_the_picture_of_many_concepts(tmp_path):
    found = {"a": Counter({f"word {i}": i + 1 for i in range(40)}), "b": Counter()}
    picture.draw(found, tmp_path / "p.png", "many")
    with Image.open(tmp_path / "p.png") as drawn:
        assert drawn.width > drawn.height
