"""The pages of evidence, from the rows of the studies.

    python -m research.worth.analyse [FOLDER]

copies the rows of a folder to `research/results`, and writes from them `worth-by-federation.csv`, the figure, and
the blocks between ``<!-- worth: NAME -->`` and ``<!-- end -->`` of RESULTS.md, README.md, docs/results.md and
docs/fedumm.md. What a block says is `pages/NAME.md`: sentences whose numbers and turns come from the rows.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from research.evidence.federations.sharing import LEAST_TESTED
from research.fedumm import figure as unified_figure
from research.rows import RESULTS, read
from research.worth import cells, figure, lines, studies, tables
from research.worth.cells import Cells
from research.worth.unified import Unified
from research.worth.words import Words, listed, told

ROOT = RESULTS.parents[1]
PAGES = (ROOT / "research/RESULTS.md", ROOT / "README.md", ROOT / "docs/results.md", ROOT / "docs/fedumm.md")
TEMPLATES = Path(__file__).parent / "pages"
BY_FEDERATION = "worth-by-federation.csv"
FIGURE = ROOT / "research/figures/worth.png"
UNIFIED_FIGURE = FIGURE.with_name("fedumm.png")
STUDIES = ("tuning", *studies.STUDIES, "fedumm", "fedumm-tuning")
_BLOCK = re.compile(r"(<!-- worth: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_WIDTH = 120
_AS_IT_IS = ("|", "#", "<", "!", "```")


def fill(page: str, results: Path = RESULTS) -> str:
    """The text of a page with every block written anew from the rows.

    Raises:
        jinja2.TemplateError: a block without a template, or a template that asks for what there is not.
    """
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    known = facts(results)
    return _BLOCK.sub(lambda b: f"{b[1]}{wrapped(templates.get_template(f'{b[2]}.md').render(known))}{b[3]}", page)


def facts(results: Path) -> Mapping[str, Any]:
    """Everything that a template may name."""
    found = Cells.of(results)
    return {
        "table": {"lines": tables.lines(found), "cases": tables.cases(found)},
        "words": Words(found),
        "unified": Unified(read(results / "fedumm.csv")),
        "regimes": cells.REGIMES,
        "case": {(c.regime, c.level, c.alpha): c for c in cells.CASES},
        "listed": listed,
        "told": told,
        **{
            name: getattr(cells, name)
            for name in ("ACCURACY", "RETRIEVAL", "NAMING", "THING", "MAPPED", "FINE", "FLOORS", "BY_CLASSES")
        },
        "tolerated": f"{100 * cells.TOLERATED:g}",
        "marks": {"survives": tables.SURVIVES, "blind": tables.BLIND},
        "design": {
            "federations": [f for f in studies.FEDERATIONS if any(row["federation"] == f for row in found.rows)],
            "pairs": studies.TRUE_PAIRS,
            "seeds": len({row["seed"] for row in found.rows}),
            "rates": sorted({rate for line in lines.LINES.values() for rate in line.rates}),
            "rate": f"{lines.RATE:g}",
            "budget": lines.BUDGET,
            "tested": LEAST_TESTED,
        },
    }


def wrapped(text: str) -> str:
    """Break the lines of paragraphs and list items anew; tables, headings, pictures and code stay as they are."""
    parts = [part for part in re.split(r"\n\s*\n", text.strip()) if part]
    return "".join(f"\n{_part(part)}\n" for part in parts) + "\n"


def _part(part: str) -> str:
    if part.startswith(_AS_IT_IS):
        return part
    items = re.split(r"\n(?=- |\d+\. )", part)
    return "\n".join(
        textwrap.fill(
            " ".join(item.split()),
            _WIDTH,
            subsequent_indent="  " if item.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for item in items
    )


def main() -> None:
    """Take rows from a folder, where one is named, and write the pages, the figure and the table by federation."""
    for study in STUDIES if len(sys.argv) > 1 else ():
        if (fresh := Path(sys.argv[1]) / f"{study}.csv").exists():
            shutil.copy(fresh, RESULTS)
    write_by_federation(RESULTS / BY_FEDERATION)
    figure.draw(Cells.of(RESULTS), FIGURE)
    unified_figure.draw(Unified(read(RESULTS / "fedumm.csv")), UNIFIED_FIGURE)
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


def write_by_federation(path: Path, results: Path = RESULTS) -> None:
    """Write the table by federation."""
    table = tables.by_federation(Cells.of(results))
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


if __name__ == "__main__":
    main()
