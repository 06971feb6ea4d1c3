"""The files of the server: the shared adapter, the consensus, every number as JSON, and a report to look at."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedgram import __version__
from fedgram.config.job import AggregationConfig, JobConfig
from fedgram.config.mode import MEANING, mode_of
from fedgram.config.strict import to_dict
from fedgram.files import write_tensors, write_text
from fedgram.methods.fedit import factors_of
from fedgram.model import peft_checkpoint
from fedgram.model.card import write_server_card
from fedgram.pretrained import hub_id
from fedgram.results import figure, page
from fedgram.results.alignment import alignments
from fedgram.results.site_results import FLOORS, SiteResults, mean_gains, site_results
from fedgram.results.sizing import sizing
from fedgram.sites.kept import EXTRA
from fedgram.sites.settled import write_directory
from fedgram.sites.state import FORMAT
from fedgram.training.outcome import Outcome
from fedgram.training.server import ServerState

_LEGEND = (
    "home: trained alone, with its own anchors as labelled samples. together: the federation's model. kept: the "
    "mixture that the site keeps of both and of a frozen LR. gain: of kept over home, of together where nothing "
    "is kept (positive is better), ± its standard error over groups. Floors, without training of a model: frozen "
    "LR (ridge for numbers) and k-NN on frozen tokens, own anchors (nearest class mean of its anchors alone). n: "
    "test samples."
)


def write_server_files(folder: Path, state: ServerState, job: JobConfig) -> None:
    """Write the model after a round: ``adapter/`` (stock PEFT), ``consensus.safetensors``, ``metrics.json``.

    With private magnitudes the adapter is a LoRA checkpoint: a DoRA with m = ‖W + sBA‖_row is exactly that. It has
    the layers whose B the method shares, and is missing when there is none. ``extra.safetensors`` holds what the
    method shares besides.
    """
    shared, settings = state.state, job.adapter
    if shared.B:
        peft_checkpoint.save_adapter(
            folder / "adapter",
            B=shared.B,
            m=shared.m,
            A=factors_of(shared.extra, "A"),
            shapes={name: state.spec.shapes[name] for name in shared.B},
            seed=job.seed,
            rank=settings.rank,
            alpha=settings.alpha,
            base_model=hub_id(job.backbone.name),
        )
    if shared.extra:
        write_tensors(folder / EXTRA, shared.extra)
    write_tensors(
        folder / "consensus.safetensors", {"consensus": shared.consensus}, {"anchors": shared.anchors_sha256}
    )
    _write(folder, state, job, _facts(state, job))


def write(folder: Path, outcome: Outcome, job: JobConfig) -> None:
    """Write the files of :func:`write_server_files` with the evaluation, and the report as text, PNG and HTML."""
    write_server_files(folder, outcome.server, job)
    write_directory(folder, outcome.directory)
    facts = _facts(outcome.server, job) | {
        "test": {site: dict(e.metrics) for site, e in outcome.together.items()},
        "test_alone": {site: dict(e.metrics) for site, e in outcome.alone.items()},
        "test_kept": {site: dict(e.metrics) for site, e in outcome.kept.items()},
        "alignment": [dataclasses.asdict(p) for p in alignments(outcome.together, job)],
        "alignment_alone": [dataclasses.asdict(p) for p in alignments(outcome.alone, job)],
    }
    _write(folder, outcome.server, job, facts)
    text = io.StringIO()
    print_report(facts, Console(file=text, width=120))
    write_text(folder / "report.txt", text.getvalue())
    figure.draw(facts, folder / "report.png")
    page.write(folder / "report.html", page.Page(facts, [*modes(facts), *verdicts(facts)], tables(facts)))


def _facts(state: ServerState, job: JobConfig) -> dict[str, Any]:
    return {
        "fedgram": __version__,
        "format": FORMAT,
        "run": state.run,
        "backbone": state.spec.backbone,
        "job": to_dict(job),
        "modalities": dict(state.modalities),
        "privacy": {site: dict(own) for site, own in state.privacy.items()},
        "rounds": [dataclasses.asdict(record) for record in state.records],
        "notes": list(state.notes),
        "test": {},
        "test_alone": {},
        "test_kept": {},
        "alignment": [],
        "alignment_alone": [],
    }


def _write(folder: Path, state: ServerState, job: JobConfig, facts: dict[str, Any]) -> None:
    """Write the numbers for programs, and the card of the adapter."""
    write_text(folder / "metrics.json", json.dumps(facts, indent=1, allow_nan=False))
    if state.state.B:
        write_server_card(
            folder / "adapter", job=job, backbone=state.spec.backbone, records=state.records, facts=facts
        )


def print_report(facts: dict[str, Any], console: Console) -> None:
    """Print whose replies did not count, how alike sites became, and at the end whether it was worth it."""
    for line in modes(facts):
        console.print(line, markup=False, highlight=False)
    for note in facts.get("notes", ()):  # fedgram 0.1 had none
        console.print(note, markup=False)
    for record in facts["rounds"]:
        reasons = [*record["rejected"].values(), *(f"{site}: no reply" for site in record["missing"])]
        for site, times in record["restarts"].items():
            reasons.append(f"{site}: its training process died {times}× and was started again")
        for reason in reasons:
            console.print(f"round {record['round']}: {reason}", markup=False)
    if said := sizing(facts):
        console.print(said, markup=False, highlight=False)
    for table in tables(facts):
        console.print(table)
    for line in verdicts(facts):
        console.print(line, markup=False, highlight=False)


def modes(facts: dict[str, Any]) -> list[str]:
    """Say in which mode a job ran, which sites promise differential privacy, and what that hides."""
    mode = mode_of(facts["job"])
    return [f"Mode: {mode}: {MEANING[mode]}"] + [
        f"{site}: differentially private, ({own['epsilon']:g}, {own['delta']:g}) for each of its groups in this "
        "job; it sends no counts and no metrics but CKA, and as home's geometry that before training"
        for site, own in sorted(facts.get("privacy", {}).items())  # fedgram 0.2 had none
    ]


def tables(facts: dict[str, Any]) -> list[Table]:
    """The tables of the report: how alike sites became, what they sent, and whether it was worth it."""
    pairs = [_pairs_table(facts)] if facts["alignment"] else []
    return [*pairs, _sent_table(facts), _sites_table(facts)]


def verdicts(facts: dict[str, Any]) -> list[str]:
    """Say the mean gain over home, with its interval, of sites judged by one metric: of all, and by modality."""
    modalities = facts.get("modalities", {})  # fedgram 0.2 had none
    found = {site: site_results(facts, site) for site in _sites(facts)}
    lines = []
    for label in dict.fromkeys(result.label for result in found.values()):
        sites = {site: result for site, result in found.items() if result.label == label}
        kinds = sorted({modalities.get(site, "") for site in sites})
        parts = {"all": [*sites.values()]}
        if len(kinds) > 1:
            parts |= {kind: [r for site, r in sites.items() if modalities.get(site, "") == kind] for kind in kinds}
        for kind, results in parts.items():
            if gains := mean_gains(results):
                said = ", ".join(f"{name} {mean:+.3f} ± {half:.3f}" for name, (mean, half) in gains.items())
                lines.append(
                    f"Mean gain over home in {label} ({kind}, {len(results)} sites, 95 % interval): {said}"
                )
    return lines


def _sites_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Was it worth it? The main metric on every site's own test samples", caption=_LEGEND)
    heads = (
        "home",
        "together",
        "kept",
        "gain",
        *(name.replace(" ", "\n") for name in FLOORS.values()),
        "n",
        "groups",
    )
    for column in ("site", "metric"):
        table.add_column(column)
    for column in heads:
        table.add_column(column, justify="right")
    for site in _sites(facts):
        found = site_results(facts, site)
        table.add_row(
            site,
            found.label,
            *map(number, (found.home, found.together, found.kept)),
            _with_error(found),
            *(number(found.floors.get(name)) for name in FLOORS),
            *(number(count, "d") for count in (found.samples, found.groups)),
        )
    return table


def _with_error(found: SiteResults) -> str:
    error = "" if found.gain_se is None else f" ± {found.gain_se:.3f}"
    return number(found.gain, "+.3f") + error


def _sent_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Sites: weight in the mean, bytes sent")
    for column in ("site", "mean share", "sent a round", "sent in all"):
        table.add_column(column, justify="left" if column == "site" else "right")
    for site in _sites(facts):
        shares = [r["shares"][site] for r in facts["rounds"] if site in r["shares"]]
        sent = [r["payload_bytes"][site] for r in facts["rounds"] if site in r["payload_bytes"]]
        mean_share, mean_sent = (sum(values) / len(values) if values else None for values in (shares, sent))
        table.add_row(site, number(mean_share), _kilobytes(mean_sent), _kilobytes(sum(sent)))
    table.caption = capped_alike(facts.get("job", {}).get("aggregation", {}), len(_sites(facts)))
    return table


def capped_alike(rules: Mapping[str, Any], sites: int) -> str | None:
    """A line that says why all weigh alike, whatever they report: the share cap leaves so few sites no choice."""
    cap = rules.get("max_share", AggregationConfig.max_share)
    if rules.get("weights") == "uniform" or sites < 2 or sites * cap > 1:
        return None
    return f"max_share = {cap:g} lets {sites} sites weigh alike, whatever their weights: raise it to count them"


def _sites(facts: dict[str, Any]) -> list[str]:
    return sorted({*facts["test"], *(site for r in facts["rounds"] for site in r["shares"])})


def _pairs_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Pairs of sites, on held-out anchors (home → together)")
    for column in ("sites", "anchors", "debiased CKA", "mutual k-NN", "chance", "retrieval P@1", "chance "):
        table.add_column(column, justify="left" if column == "sites" else "right")
    before = {tuple(p["sites"]): p for p in facts["alignment_alone"]}
    for pair in facts["alignment"]:
        alone = before.get(tuple(pair["sites"]), dict.fromkeys(pair))
        table.add_row(
            " – ".join(pair["sites"]),
            str(pair["anchors"]),
            f"{number(alone['cka'])} → {number(pair['cka'])}",
            f"{number(alone['knn'])} → {number(pair['knn'])}",
            number(pair["knn_chance"]),
            f"{number(alone['retrieval'])} → {number(pair['retrieval'])}",
            number(pair["retrieval_chance"]),
        )
    return table


def number(value: float | None, form: str = ".3f") -> str:
    """Format a number for a table; a dash where there is none."""
    return "–" if value is None else format(value, form)


def _kilobytes(size: float | None) -> str:
    return "–" if size is None else f"{size / 1000:,.0f} kB"
