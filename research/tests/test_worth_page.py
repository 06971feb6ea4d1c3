"""The page of evidence: statistics by hand, words that follow from numbers, pages that say what the rows say."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from research.fedumm import figure as unified_figure
from research.rows import RESULTS
from research.worth import analyse, figure, tables
from research.worth.cells import ACCURACY, CASES, KEPT, RETRIEVAL, WITH_EVERY_LINE, Asked, Case, Cells
from research.worth.statistics import Estimate, estimate, holm
from research.worth.unified import PLAIN, Unified
from research.worth.words import Words, listed, places, told

FEW = WITH_EVERY_LINE


def row(line: str, federation: str, seed: int, accuracy: float, case=FEW, **more: float) -> dict:
    key = {"regime": case.regime, "federation": federation, "level": case.level, "alpha": case.alpha}
    return {**key, "line": line, "rate": 1, "seed": seed, "accuracy": accuracy, **more}


def pairs(federation: str, home: float, *ours: float, kept: float = 0.0, frozen: float = 0.0) -> list[dict]:
    """Home and ours with a seed each; what is kept, and ours with a frozen B, lie so far from ours."""
    found = []
    for seed, accuracy in enumerate(ours):
        found += [row("home", federation, seed, home, test_samples=40)]
        found += [row("ours", federation, seed, accuracy, **{"kept accuracy": accuracy + kept})]
        found += [row("frozen B", federation, seed, accuracy + frozen * (1 + seed))]
    return found


# statistics


def test_an_interval_by_hand():
    """Mean 2, standard deviation 1, n = 3: half 4.303 / √3; t = 2 √3 = 3.464 with 2 degrees of freedom."""
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.units) == (2.0, 3)
    assert found.half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    assert found.open
    assert not found.above


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], "–"), ([0.0123], "+1.2"), ([-0.01, -0.01], "−1.0 ± 0.0"), ([0.01, 0.03], "+2.0 ± 12.7")],
)
def test_an_estimate_is_shown_in_points(values: list[float], shown: str):
    assert str(estimate(values)) == shown


def test_equal_values_are_certain_and_none_is_nothing():
    assert estimate([0.1, 0.1]).above
    assert estimate([-0.1, -0.1]).below
    assert estimate([0.0, 0.0]).p == 1.0
    for nothing in (estimate([]), estimate([0.5])):
        assert (nothing.above, nothing.below, nothing.open) == (False, False, False)


def test_holm_by_hand():
    """p of 0.01, 0.04, 0.03, 0.005 against 0.05/4, 0.05/3, 0.05/2, 0.05/1 in order of size: two survive.

    0.005 ≤ 0.0125 and 0.01 ≤ 0.0167 hold, 0.03 > 0.025 fails, and 0.04 is not asked any more.
    """
    found = [Estimate(mean=1.0, half=0.1, p=p, units=5) for p in (0.01, 0.04, 0.03, 0.005)]
    assert holm(found) == [True, False, False, True]
    assert holm([*found[1:3], estimate([0.3])]) == [False, False, False]  # 0.03 > 0.025; one unit does not count
    assert holm([found[1]]) == [True]


# cells


def test_a_federation_is_the_unit_whatever_its_seeds():
    """Means over seeds 0.2 and 0.4, whichever has more seeds: mean 0.3, half 12.706 · 0.1."""
    cells = Cells(pairs("synthetic", 0.5, 0.6, 0.8) + pairs("emoji", 0.5, 0.9, 0.9, 0.9))
    found = cells.lead(FEW, "ours")
    assert (found.mean, found.units) == (pytest.approx(0.3), 2)
    assert found.half == pytest.approx(12.706 * 0.1, abs=1e-3)
    within = cells.alone_of(FEW, "ours")
    assert {name: own.units for name, own in within.items()} == {"synthetic": 2, "emoji": 3}
    assert within["synthetic"].half == pytest.approx(12.706 * 0.1, abs=1e-3)


def test_differences_are_between_the_same_seeds():
    rows = [row("home", "emoji", 0, 0.1), row("home", "emoji", 1, 0.2), row("ours", "emoji", 1, 0.5)]
    assert Cells(rows).by_federation(FEW, Asked("ours", ACCURACY), Asked("home", ACCURACY)) == {"emoji": [0.3]}


def test_kept_is_a_column_of_ours():
    cells = Cells(pairs("emoji", 0.5, 0.6, 0.8, kept=-0.1))
    assert cells.lead(FEW, KEPT).mean == pytest.approx(0.1)
    assert cells.lead(FEW, KEPT, RETRIEVAL).units == 0


def test_a_cell_is_blind_where_a_frozen_direction_is_as_good():
    """Differences of 0, 0, 0 are blind; of −0.1, −0.2, −0.3 (−0.2 ± 0.248) too; of −0.1, −0.1 none."""
    rows = pairs("synthetic", 0.5, 0.6, 0.7, 0.8) + pairs("emoji", 0.5, 0.6, 0.7, 0.8, frozen=0.1)
    cells = Cells(rows)
    assert cells.blind(FEW, ACCURACY) == {"synthetic": True, "emoji": True}
    worse = [r | {"accuracy": r["accuracy"] - 0.1} if r["line"] == "frozen B" else r for r in rows[:9]]
    assert Cells(worse).blind(FEW, ACCURACY) == {"synthetic": False}
    line = next(line for line in tables.lines(cells).splitlines() if line.startswith("| GeoLoRA with groups |"))
    assert tables.BLIND in line.split("|")[3]
    table = tables.by_federation(cells)
    assert table[table["line"] == "ours"]["blind"].tolist() == [True, True]


# words


def test_words_follow_from_the_numbers():
    up, down, even = estimate([0.1, 0.1]), estimate([-0.1, -0.1]), estimate([-0.1, 0.1])
    assert told([("a", up), ("b", down), ("c", even), ("d", estimate([])), ("e", up)]) == (
        "above home (a: +10.0 ± 0.0, e: +10.0 ± 0.0); below home (b: −10.0 ± 0.0); "
        "not shown to differ from home (c: +0.0 ± 127.1); not measured against home (d)"
    )
    assert told([("", down)], "it") == "below it (−10.0 ± 0.0)"
    assert told([("", estimate([0.1]))]) == "measured in one federation only, against home (+10.0)"
    assert listed("abc") == "a, b and c"
    assert places(c for c in CASES if c.level in (1, 8)) == (
        "few labels (1 shot; 8 shots) and many sites (8 sites; 8 sites at α = 0.1)"
    )
    assert places(c for c in CASES if c.regime == "many sites") == "many sites"


def test_a_loss_turns_every_sentence():
    rows = pairs("synthetic", 0.5, 0.6, 0.6) + pairs("emoji", 0.5, 0.6, 0.6)
    gains, losses = Words(Cells(rows)), Words(Cells([r | {"accuracy": 1 - r["accuracy"]} for r in rows]))
    assert (gains.where("above", "ours"), gains.where("below", "ours")) == ("few labels (4 shots)", "")
    assert (losses.where("above", "ours"), losses.where("below", "ours")) == ("", "few labels (4 shots)")
    assert (gains.verdict("few labels"), losses.verdict("few labels")) == ("pays", "costs")
    assert gains.verdict("few labels", RETRIEVAL) == "unknown"
    mixed = Words(Cells(pairs("synthetic", 0.5, 0.6, 0.6) + pairs("emoji", 0.5, 0.48, 0.52)))
    assert mixed.verdict("few labels") == "depends"
    assert mixed.mostly("ours", "above") == "few labels on synthetic"
    assert mixed.named("few labels", "ours", "above") == "synthetic (1 of 1)"
    assert mixed.named("few labels", "ours", "below") == "none"
    assert mixed.tally("few labels", "ours") == (1, 0)
    assert gains.surviving_of("ours") == "few labels (4 shots)"
    assert gains.summary("few labels", "ours") == "+10.0 (shown in 1 of 1)"
    assert losses.summary("few labels", "ours") == "−10.0 (shown in 0 of 1, a loss in 1)"
    assert gains.summary("many sites", "ours") == "not measured"


def test_losses_of_what_is_kept_are_counted_by_federation():
    """Kept − home: 0.1 and 0.1 − 0.106; half a point is tolerated, 0.6 is not."""
    rows = pairs("synthetic", 0.5, 0.6, 0.6) + pairs("emoji", 0.5, 0.6, 0.6, kept=-0.106)
    found = Words(Cells(rows)).shortfalls()
    assert (found.cells, found.short, found.surely) == (2, 1, 1)
    assert (found.where, str(found.worst)) == ("emoji, few labels, 4 shots", "−0.6 ± 0.0")
    near = Words(Cells(pairs("emoji", 0.5, 0.6, 0.6, kept=-0.104))).shortfalls()
    assert (near.cells, near.short) == (1, 0)


def test_what_is_spoilt_is_held_against_the_homes_of_its_own_run():
    case = Case("noisy site", 4, 0.0, "", ())
    more = {"kept accuracy": 0.5, "own rate accuracy": 0.4, "worst gain": -0.1, "worst other gain": -0.05}
    name, kept, worst, others = Words(Cells([row("ours", "emoji", 0, 0.9, case, **more)])).broken()[0]
    assert (name, str(kept), str(worst), str(others)) == ("noisy site", "+10.0", "−10.0", "−5.0")


def test_fedumm_is_compared_on_the_same_seeds():
    rows = [{**PLAIN, "seed": s, "vqa_accuracy": 0.4 + s / 10} for s in (0, 1)]
    rows += [{**PLAIN, "rank": 4, "seed": s, "vqa_accuracy": 0.3} for s in (1, 2)]
    # Rows of another kind do not count as plain ones.
    rows += [
        {**PLAIN, **kind, "seed": 0, "vqa_accuracy": 0.9} for kind in ({"momentum": 0.6}, {"without": "falling"})
    ]
    unified = Unified(rows)
    assert unified.level("vqa_accuracy").mean == pytest.approx(0.45)
    found = unified.minus("vqa_accuracy", {"rank": 4}, {})
    assert (found.mean, found.units) == (pytest.approx(-0.2), 1)
    assert unified.minus("vqa_accuracy", {"rank": (4, 16)}, {}).mean == pytest.approx(-0.05)


# pages


@pytest.mark.parametrize("page", analyse.PAGES, ids=lambda page: page.name)
def test_a_page_says_what_the_rows_say(page: Path):
    text = page.read_text(encoding="utf-8")
    assert analyse.fill(text) == text, "run: make -C research page"
    assert "<!-- worth: " in text


def test_the_table_by_federation_is_that_of_the_rows(tmp_path: Path):
    analyse.write_by_federation(tmp_path / "fresh.csv")
    kept = RESULTS / analyse.BY_FEDERATION
    assert (tmp_path / "fresh.csv").read_text() == kept.read_text(), "run: make -C research page"


def test_the_page_is_read_to_its_end():
    assert len(analyse.PAGES[0].read_bytes()) <= 15_000


def test_no_number_is_written_by_hand():
    """Outside braces, code and links a template holds no decimals, percentages or differences."""
    for template in analyse.TEMPLATES.glob("*.md"):
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`|\]\([^)]*\)", "", template.read_text(), flags=re.DOTALL)
        assert re.findall(r"\d+\.\d+|\d+ %|± *\d|[+−]\d", re.sub("α = 0.1|95 %", "", text)) == [], template.name


def test_pages_can_be_written_before_there_are_rows(tmp_path: Path):
    for page in analyse.PAGES:
        assert re.findall(r"\bnan\b", analyse.fill(page.read_text(encoding="utf-8"), tmp_path)) == []


def test_lines_are_broken_anew_but_not_tables():
    long = "word " * 40
    text = analyse.wrapped(f"# A\n\n{long}\n\n| {long} |\n\n- {long}\n- b\n")
    heading, paragraph, table, items = text.strip().split("\n\n")
    assert heading == "# A"
    assert max(map(len, paragraph.splitlines())) <= 120
    assert table == f"| {long} |"
    assert items.splitlines()[1].startswith("  word")
    assert items.splitlines()[-1] == "- b"


def test_the_figure_is_drawn(tmp_path: Path):
    figure.draw(Cells(pairs("synthetic", 0.5, 0.6, 0.62) + pairs("emoji", 0.5, 0.6, 0.6)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_the_figure_of_fedumm_is_drawn_with_and_without_rows(tmp_path: Path):
    rows = [
        {**PLAIN, "clients": k, "alpha": a, "steps": steps, "seed": s, "vqa_accuracy": 0.4 + k / 100 + s / 10}
        for k, a in ((1, float("inf")), (4, 0.5))
        for steps in (320, 1280)
        for s in (0, 1)
    ]
    for name, known in (("rows", rows), ("none", [])):
        unified_figure.draw(Unified(known), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "rows.png").read_bytes() != (tmp_path / "none.png").read_bytes()
