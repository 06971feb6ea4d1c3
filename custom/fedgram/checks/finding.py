"""The findings of checks: the doctor's, and those of a site's data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fedgram.errors import FedgramError

Level = Literal["ok", "warning", "failure", "skipped"]
TAKE_OUT = "take it out of the table and of the anchors"  # of a column: else the anchors have one more
_THERE = "correct it at the place that is named"


@dataclass(frozen=True)
class Finding:
    """The outcome of a check, and the remedy where one is needed."""

    level: Level
    text: str
    remedy: str = ""


def any_failed(findings: Iterable[Finding]) -> bool:
    """Whether training would not start."""
    return any(finding.level == "failure" for finding in findings)


def from_error(error: FedgramError) -> Finding:
    """An error of fedgram as a finding."""
    text = f"{error.where}: {error.problem}" if error.where is not None else error.problem
    expected = f"expected: {error.expected}" if error.expected is not None else ""
    return Finding("failure", text, "; ".join(filter(None, (error.remedy, expected))) or _THERE)
