"""Model cards in the Hugging Face format, written beside every checkpoint.

A card may be published with its checkpoint. So it holds numbers, settings and names that are public already: no
sample, group, file or folder, and no site by its name; where a job's log would name a site, a card counts sites.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.files import write_text
from fedgram.pretrained import hub_id
from fedgram.records import RoundRecord

CARD = "README.md"
_ROWS = 12  # of the table of rounds
_PACKAGES = ("torch", "transformers", "peft", "nvflare")


def write_server_card(
    folder: Path,
    *,
    job: JobConfig,
    backbone: str,
    records: Sequence[RoundRecord],
    facts: Mapping[str, Any],
) -> None:
    """Describe the shared adapter of a federation in its folder.

    Args:
        folder: of the PEFT checkpoint.
        job: its settings.
        backbone: sha256 of the frozen base weights.
        records: of the rounds.
        facts: ``test``, ``test_alone``, ``alignment`` and ``alignment_alone`` as in ``metrics.json``.
    """
    sites = sorted({site for record in records for site in record.metrics})
    numbers = {site: f"site {i}" for i, site in enumerate(sites, start=1)}
    body = [
        "# Shared adapter of a fedgram federation",
        f"A low-rank update of `{hub_id(job.backbone.name)}`, trained over {len(sites)} sites that share no data "
        "and whose samples are of different kinds and not paired. Every site feeds its own frozen tokens through "
        "an adapter of its own, which is not part of this checkpoint.",
        *_use(job),
        *_training(job, backbone),
        *_rounds(records),
        *_evaluation(facts, numbers),
        *_end(_promised(facts.get("privacy", {}), len(sites))),
    ]
    _write(folder, job, body, dora=job.adapter.shares_magnitude)


def write_site_card(
    folder: Path,
    *,
    job: JobConfig,
    backbone: str,
    modality: str,
    task: str,
    counts: Mapping[str, int],
    classes: Iterable[object],
    metrics: Mapping[str, float],
    guarantee: str = "",
) -> None:
    """Describe what one site keeps.

    Args:
        folder: of the PEFT checkpoint.
        job: its settings.
        backbone: sha256 of the frozen base weights.
        modality: by name.
        task: kind of the site's task.
        counts: number of samples by split.
        classes: of the site's task; those that are concepts of the public anchors are named, others counted.
        metrics: on the site's test split.
        guarantee: the differential privacy of what is in the folder, in words; empty where there is none.
    """
    public, own = set(job.anchors.concepts), set(map(str, classes))
    named = ", ".join(sorted(own & public)) or "none that the anchors have"
    others = f", and {len(own - public)} others" if own - public else ""
    body = [
        f"# A site's part of a fedgram federation: {modality}",
        f"A low-rank update of `{hub_id(job.backbone.name)}`, shared by all sites, with this site's own "
        "magnitudes. The site's linear adapter and head stand beside this folder and stay at the site.",
        *_use(job),
        "## Data of this site",
        *([] if guarantee else [_table(("split", "samples"), counts.items())]),
        f"Task: {task}. Classes: {named}{others}." if own else f"Task: {task}.",
        *_training(job, backbone),
        *(["## Evaluation", _table(("metric", "test samples of this site"), metrics.items())] if metrics else []),
        *_end(guarantee),
    ]
    _write(folder, job, body, dora=job.adapter.dora)


def _write(folder: Path, job: JobConfig, body: Sequence[str], *, dora: bool) -> None:
    data = ModelCardData(
        base_model=hub_id(job.backbone.name),
        library_name="peft",
        license="other",
        license_name="unspecified",
        tags=["fedgram", "federated-learning", "multimodal", "nvflare", "dora" if dora else "lora"],
    )
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")
    write_text(folder / CARD, str(card))


def _use(job: JobConfig) -> list[str]:
    layers = f", num_hidden_layers={job.backbone.layers}" if job.backbone.layers else ""
    return [
        "## Use",
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModel\n\n"
        f'base = AutoModel.from_pretrained("{hub_id(job.backbone.name)}"{layers})\n'
        'model = PeftModel.from_pretrained(base, "this folder")\n'
        "hidden = model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state\n"
        "```",
        "Of a vision-language base only the language tower was adapted; `fedgram merge` writes it, merged, as a "
        "model of its own, with what FLoRA and FedEx-LoRA add to the base itself, which is not in this folder. "
        "Without a site's adapter the inputs have no meaning.",
    ]


def _training(job: JobConfig, backbone: str) -> list[str]:
    adapter, training, heldout = job.adapter, job.training, job.heldout
    rows = {
        "base weights, sha256 in bf16": backbone,
        "layers": job.backbone.layers or "all",
        "adapter": f"{'GeoDoRA' if adapter.dora else 'GeoLoRA'}, rank {adapter.rank}, alpha {adapter.alpha:g}",
        "magnitudes": adapter.magnitude if adapter.dora else "none",
        "rounds × local steps × batch": f"{training.rounds} × {training.local_steps} × {training.batch_size}",
        "geometry loss": f"{training.geometry_weight:g} × (1 − CKA), {training.cka}",
        "weights of the sites": job.aggregation.weights,
        "anchor set": f"{job.anchors.slots} slots, manifest {job.anchors.sha256}",
        "held-out anchors": f"{heldout.slots} slots, manifest {heldout.sha256}" if heldout else "none",
        "concepts": ", ".join(dict.fromkeys(job.anchors.concepts)),
        "seed": job.seed,
        "versions": ", ".join(_versions()),
    }
    return ["## Training", _table(("what", "value"), rows.items())]


def _versions() -> list[str]:
    found = [f"fedgram {__version__}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # the checkpoint is as good without it
            continue
    return found


def _rounds(records: Sequence[RoundRecord]) -> list[str]:
    """At most twelve rounds, spread over the run, the last one among them."""
    if not records:
        return []
    metrics = sorted({name for r in records for values in r.metrics.values() for name in values} - {"seconds"})
    step = -(-len(records) // _ROWS)
    rows = [
        (
            record.round,
            sum(record.samples.values()) or "–",
            f"{len(record.metrics)} of {len(record.metrics) + len(record.rejected) + len(record.missing)}",
            f"{record.mean_update_norm:.3g}",
            *(_mean([values[name] for values in record.metrics.values() if name in values]) for name in metrics),
        )
        for record in list(reversed(records))[::step][::-1]
    ]
    header = ("round", "training samples", "sites that counted", "norm of the update", *metrics)
    return [
        "## Rounds",
        "Means over the sites: losses and CKA while training, all else on validation samples.",
        _table(header, rows),
    ]


def _evaluation(facts: Mapping[str, Any], numbers: Mapping[str, str]) -> list[str]:
    parts = []
    rows = [
        (numbers.get(site, "–"), name, _number(facts["test_alone"].get(site, {}).get(name)), _number(value))
        for site, metrics in sorted(facts["test"].items())
        for name, value in sorted(metrics.items())
    ]
    if rows:
        parts += ["## Test samples of the sites", _table(("site", "metric", "trained alone", "together"), rows)]
    pairs = []
    for pair in facts["alignment"]:
        names = " – ".join(numbers.get(site, "–") for site in pair["sites"])
        pairs.append((names, pair["anchors"], _number(pair["cka"]), _number(pair["retrieval"])))
    if pairs:
        header = ("sites", "held-out anchors", "debiased CKA", "retrieval P@1")
        parts += ["## Alignment of the sites on held-out anchors", _table(header, pairs)]
    return parts


def _promised(privacy: Mapping[str, Mapping[str, float]], sites: int) -> str:
    """Say how many sites promise differential privacy, and the weakest promise; nothing where none does."""
    if not privacy:
        return ""
    epsilon, delta = (max(own[name] for own in privacy.values()) for name in ("epsilon", "delta"))
    others = "" if len(privacy) == sites else " Of the others' data it is as revealing as any gradient."
    bound = f"at most ({epsilon:g}, {delta:g}) in this job"
    return (
        f"{len(privacy)} of {sites} sites promise differential privacy of each of their groups, {bound}.{others}"
    )


def _end(guarantee: str = "") -> list[str]:
    bound = "The update was trained on data that are not public and is as revealing as any gradient: "
    return [
        "## Licence and limits",
        "No licence was given: set `license` above before this is published; merged weights also carry that of "
        "the base model. " + (guarantee or f"{bound}no differential privacy was applied."),
    ]


def _mean(values: Sequence[float]) -> str:
    return _number(sum(values) / len(values)) if values else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")
