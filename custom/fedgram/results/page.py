"""The report as one page for a browser, ``report.html``: nothing is fetched, all pictures lie inside.

The server's page has what sites have sent. Where the results of sites lie in one place it also has their test
samples: confusion matrices, and what they find at each other.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.table import Table

from fedgram.files import write_text
from fedgram.results import figure
from fedgram.results.site_results import FLOORS
from fedgram.results.sizing import sizing

if TYPE_CHECKING:  # they come with the sites' models, and the server writes its page without
    from fedgram.results.gallery import Asking
    from fedgram.results.owntest import OwnTest

_MOST_CLASSES = 20  # whose confusion has room


@dataclass(frozen=True)
class Page:
    """The contents of a page.

    Attributes:
        facts: of ``metrics.json``.
        verdicts: sentences that come first.
        tables: of the run.
        across: tables of questions between the test samples of sites.
        own: sites' own test samples.
        figures: of questions between sites.
        gallery: questions with what they found.
    """

    facts: Mapping[str, Any]
    verdicts: Sequence[str]
    tables: Sequence[Table]
    across: Sequence[Table] = ()
    own: Sequence[OwnTest] = ()
    figures: Sequence[Figure] = ()
    gallery: Sequence[Asking] = field(default=())


def write(path: Path, page: Page) -> None:
    """Write a page."""
    environment = Environment(
        loader=PackageLoader("fedgram.results", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(
        facts=page.facts,
        verdicts=page.verdicts,
        tables=[*map(_plain, page.tables)],
        across=[*map(_plain, page.across)],
        own=page.own,
        asked={name: name for name in ("home", "together", "kept")} | FLOORS,
        confusions=[_confusion(test) for test in page.own if 0 < len(test.classes) <= _MOST_CLASSES],
        curves=[*map(_svg, figure.panels(dict(page.facts)))],
        figures=[*map(_svg, page.figures)],
        gallery=page.gallery,
        travelled=_travelled(page.facts),
        sizing=sizing(page.facts),
    )
    write_text(path, text)


def _plain(table: Table) -> dict[str, Any]:
    """A table of the console as head and rows."""
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return {
        "title": str(table.title),
        "head": [str(column.header) for column in table.columns],
        "rows": [[str(cell) for cell in row] for row in rows],
        "words": [column.justify != "right" for column in table.columns],
        "caption": str(table.caption or ""),
    }


def _confusion(test: OwnTest) -> dict[str, Any]:
    """The counts of what a site keeps (else of the federation's model), with the share of each in its row."""
    name = "kept" if "kept" in test.confusion else next(iter(test.confusion))
    counts = test.confusion[name]
    return {
        "site": test.site,
        "model": name,
        "classes": test.classes,
        "rows": [[(count, count / max(sum(row), 1)) for count in row] for row in counts],
    }


def _svg(drawn: Figure) -> str:
    """A figure as an address that holds it, with its text as text."""
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fedgram"}):
        drawn.savefig(out, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}"


def _travelled(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bytes that each site sent in each round, beside the names of the numbers that it sent."""
    sites = sorted({site for record in facts["rounds"] for site in record["payload_bytes"]})
    found = []
    for site in sites:
        sent = [record["payload_bytes"].get(site, 0) for record in facts["rounds"]]
        numbers = {name for record in facts["rounds"] for name in record["metrics"].get(site, {})}
        numbers |= {name for part in ("test", "test_alone", "test_kept") for name in facts[part].get(site, {})}
        largest = max(sent, default=0) or 1
        found.append(
            {
                "site": site,
                "rounds": [(n, n / largest) for n in sent],
                "all": sum(sent),
                "numbers": sorted(numbers),
            }
        )
    return found
