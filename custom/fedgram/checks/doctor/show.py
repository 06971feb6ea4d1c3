"""The doctor's findings, and what will leave the site, printed on the site's terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from fedgram.checks.doctor.kit import read_local
from fedgram.checks.doctor.visit import Visit
from fedgram.checks.finding import Finding, Level
from fedgram.errors import ConfigError
from fedgram.flare import outbound

# Of resources.json, what FLARE keeps to itself when a client registers; all else it tells the server.
KEPT_BY_FLARE = {
    "format_version",
    "client",
    "servers",
    "components",
    "handlers",
    "class_allow_list",
    "class_list_enforcement_mode",
    "snapshot_persistor",
    "admin",
    "relay_config",
    "overseer_agent",
}
_STYLE: dict[Level, str] = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}


def print_findings(visit: Visit, findings: Sequence[tuple[str, Finding]], console: Console) -> None:
    """Print one row for each finding, with the remedy below it."""
    table = Table("check", "result", "found", title=f"fedgram doctor: {visit.kit.name}", show_lines=True)
    for name, finding in findings:
        text = escape(finding.text) + (f"\n[italic]→ {escape(finding.remedy)}[/italic]" if finding.remedy else "")
        table.add_row(name, f"[{_STYLE[finding.level]}]{finding.level}[/]", text)
    console.print(table)
    counts = {level: sum(f.level == level for _, f in findings) for level in ("failure", "warning", "skipped")}
    console.print(", ".join(f"{level}: {number}" for level, number in counts.items()))


def print_outbound(visit: Visit, console: Console) -> None:
    """Print the contract of what leaves a site, with this site's and this job's numbers where they are known."""
    extent = extent_of(visit)
    amounts = outbound.amounts(extent) if extent else {}
    place = _place(visit)
    title = f"what will leave {visit.kit.name}, mode: {outbound.MODES[place]}"
    table = Table("what", "shape", "when", "here", title=title, show_lines=True)
    from fedgram.methods import find  # the checks at a site have loaded it

    methods, share = (visit.config.methods, visit.config.share) if visit.config else ((), ())
    for part in outbound.leaves([name for name in methods if find(name).sends_what], share):
        here = ", ".join(_advertised(visit)) if part is outbound.FLARE else ""
        if part in amounts:
            size = amounts[part].bytes
            here = amounts[part].text + (f": {decimal(size)}" if size else "")
        if (mode := part.modes[place]) != "no":
            what = part.what if mode == "sent" else f"{part.what} ({mode})"
            table.add_row(escape(what), part.shape, part.when, escape(here))
    console.print(table)
    if extent is not None and extent.shapes is not None:
        total = decimal(outbound.round_bytes(extent))
        console.print(f"in all {total} of tensors a round; FLARE adds about 225 bytes to each tensor")
    console.print("never leaves: " + "; ".join(outbound.STAYS))


def _place(visit: Visit) -> int:
    """The mode of the job that is looked at; of those that the site's own file asks for, where there is none."""
    own = visit.config
    asked = own is not None and "masked" in own.require
    masked = visit.job.settings.aggregation.masked if visit.job else asked
    return outbound.place(masked=masked, private=own is not None and own.privacy is not None)


def extent_of(visit: Visit) -> outbound.Extent | None:
    """The numbers of this site, once its data and anchors are known."""
    if visit.modality is None or visit.anchors is None or visit.samples is None:
        return None
    name = visit.modality.name
    return outbound.Extent(
        slots=len(visit.anchors.covered(name)),
        heldout=len(visit.heldout.covered(name)) if visit.heldout else 0,
        samples=len(visit.samples["train"]),
        job=visit.job.settings if visit.job else None,
        private=visit.config is not None and visit.config.privacy is not None,
        shapes=visit.spec.shapes if visit.spec else None,
        shared=visit.shared,
    )


def _advertised(visit: Visit) -> list[str]:
    """Settings of ``resources.json`` that FLARE 2.9.0 tells the server when the client registers."""
    try:
        return sorted(read_local(visit.kit, "resources.json")[1].keys() - KEPT_BY_FLARE)
    except ConfigError:  # the check of the allow-list has said so
        return []
