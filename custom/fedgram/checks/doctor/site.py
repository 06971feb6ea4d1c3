"""Checks of a site's own file, data, models and machine: everything that a job would stumble over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.filesize import decimal

from fedgram import modalities
from fedgram.anchors import AnchorSet
from fedgram.checks.data import labels
from fedgram.checks.doctor.room import SPARE, enough, free_memory, room
from fedgram.checks.doctor.visit import Finding, Skip, Visit, needed
from fedgram.config.job import AnchorPin
from fedgram.config.site import SPLIT, UNIFIED, SiteConfig, find_site_config
from fedgram.data.splits import PARTS
from fedgram.demo.names import resolve
from fedgram.errors import ConfigError, DataError
from fedgram.methods import find, method_of, require_allowed
from fedgram.modalities.base import Modality
from fedgram.model import lora
from fedgram.model.attaching import attach_update
from fedgram.model.backbone import base_fingerprint, load_backbone, positions, require_positions, weight_bytes
from fedgram.model.site_model import TokenAdapter, hidden_width, width
from fedgram.model.tasks import make_task
from fedgram.model.unified.loading import load_unified
from fedgram.model.unified.sizes import sizes
from fedgram.records import ModelSpec, Sample, Tokens
from fedgram.sites.anchored import are_foreign, find_anchors
from fedgram.sites.device import choose_device
from fedgram.sites.groups import parameters_of
from fedgram.sites.pairs import read_pairs
from fedgram.sites.samples import concepts_of, read_samples, split_samples
from fedgram.sites.unified_data import counts, read_items, read_rehearsal, split_items

_SNAPSHOTS = 3  # state files that a site has at once: two rounds, and the one being written
_LESS = 'close other programs, use fewer samples, or write precision = "bf16" or "nf4" in the site file'


def site_file(visit: Visit) -> Iterator[Finding]:
    """Check that the site's own file is there and right, and its modality and methods can be imported."""
    config = find_site_config(visit.kit.folder / "local", visit.kit.name)
    modality = modalities.load("image" if config.unified else config.modality)  # its anchors are pictures
    for method in config.methods:
        find(method)
    visit.config, visit.modality = resolve(config), modality
    name = UNIFIED if config.unified else modality.name
    expected = visit.job.modality if visit.job else name
    if expected != name:
        raise ConfigError(
            f"modality {name!r}",
            where="site file",
            expected=f"{expected!r}, which the job has for {visit.kit.name}",
            remedy="correct the site file, or ask for another app in the job's deploy_map",
        )
    where = ", ".join(v for v in config.unified.paths().values() if v) if config.unified else config.data
    yield Finding("ok", f"modality {name!r}, data {where}")


def data(visit: Visit) -> Iterator[Finding]:
    """Check that every sample can be read, and count those of each class or label in each split."""
    config, modality = needed(visit.config, "site file"), needed(visit.modality, "site file")
    if config.unified is not None:
        yield from _items(visit, config)
        return
    samples = read_samples(config, modality)
    parts = split_samples(visit.kit.name, samples, config.concepts, apart=config.privacy is not None)
    counts = labels.counts(parts)
    groups = {label: len({s.group for s in samples if label in s.labels}) for label in counts["train"]}
    make_task(config, parts["train"], concepts_of(parts["train"]))
    pairs = read_pairs(visit.kit.name, config, parts)
    visit.samples, visit.pairs = parts, pairs
    lines = [
        f"{concept}: "
        + ", ".join(f"{counts[part][concept]} {part}" for part in PARTS)
        + f" of {groups[concept]} groups"
        for concept in sorted(groups)
    ]
    if config.bridge is not None:
        counted = ", ".join(f"{len(pairs[part])} {part}" for part in PARTS)
        lines.append(f"pairs with {config.bridge.modality!r}: {counted}")
    yield Finding("ok", "\n".join([f"{sum(map(len, parts.values()))} samples", *lines]))
    yield from labels.few(parts)
    yield from labels.untested(parts)


def _items(visit: Visit, config: SiteConfig) -> Iterator[Finding]:
    """Check the questions and captions of a unified site."""
    parts = split_items(read_items(config))
    rehearsal = read_rehearsal(config)
    looked_at = parts | {"rehearsal": rehearsal}
    visit.samples = {part: (*items.questions, *items.captions) for part, items in looked_at.items()}
    lines = [f"{part}: {asked} questions, {told} captions" for part, (asked, told) in counts(parts).items()]
    lines += [f"rehearsal: {len(rehearsal.captions)} captions"] if len(rehearsal) else []
    yield Finding("ok", "\n".join(lines))
    untested = [part for part, items in parts.items() if not len(items)]
    if untested:
        yield Finding(
            "warning", f"nothing in {', '.join(untested)}", "add pictures, or name the splits in the data"
        )


def anchors(visit: Visit) -> Iterator[Finding]:
    """Check that the training anchor set is intact, the job's, readable, and of the data's concepts."""
    config = needed(visit.config, "site file")
    visit.anchors = found = _anchors(visit, config.anchors, visit.job.settings.anchors if visit.job else None)
    yield _about(found, needed(visit.modality, "site file").name)
    if visit.samples is not None and config.unified is None:
        trained = concepts_of(visit.samples["train"])
        if are_foreign(found, trained, needed(visit.modality, "site file").name):
            yield Finding(
                "warning",
                f"none of the site's concepts {list(trained)} is among the anchors'",
                "label the data with the anchors' concepts, unless these are foreign on purpose",
            )


def held_out_anchors(visit: Visit) -> Iterator[Finding]:
    """Check the anchors that only evaluate in the same way."""
    config, pin = needed(visit.config, "site file"), visit.job.settings.heldout if visit.job else None
    if config.heldout is None:
        if pin is not None:
            raise ConfigError("no held-out anchors", where="site file: heldout", remedy="name their folder")
        raise Skip("the site file names none, which is right for a job without them")
    visit.heldout = found = _anchors(visit, config.heldout, pin)
    yield _about(found, needed(visit.modality, "site file").name)


def _anchors(visit: Visit, folder: str, pin: AnchorPin | None) -> AnchorSet:
    modality = needed(visit.modality, "site file")
    found = find_anchors(visit.kit.name, folder, pin, modality.name)
    found.contents(modality)
    return found


def _about(anchors: AnchorSet, modality: str) -> Finding:
    filled = len(anchors.covered(modality))
    return Finding("ok", f"{anchors.name}: {filled} of {len(anchors)} slots; sha256 {anchors.manifest_sha256}")


def tokenizer(visit: Visit) -> Iterator[Finding]:
    """Check that the frozen encoders load, and make finite tokens of one sample."""
    config, parts = needed(visit.config, "site file"), needed(visit.samples, "data")
    if config.unified is not None:
        raise Skip("a unified site has none: its model sees the pictures")
    modality, train = needed(visit.modality, "site file"), parts["train"]
    visit.token_shape = _token_shape(modality, config.tokenizer, train)
    yield Finding("ok", "{}: {} tokens of {} numbers a sample".format(config.tokenizer, *visit.token_shape))
    if config.bridge is not None:
        seconds = [pair.sample for pair in needed(visit.pairs, "data")["train"]]
        second, name = modalities.load(config.bridge.modality), config.bridge.tokenizer
        visit.paired_shape = _token_shape(second, name, seconds)
        yield Finding("ok", "{}: {} tokens of {} numbers a sample, paired".format(name, *visit.paired_shape))


def _token_shape(modality: Modality, name: str, samples: Sequence[Sample]) -> tuple[int, int]:
    """The number L of tokens of a sample and their width d_m."""
    tokens = modality.tokenizer(name, samples)([samples[0].content])
    if not torch.isfinite(tokens.values).all():
        raise DataError("tokens that are not finite", where=f"tokenizer {name!r}", remedy="use another")
    return tokens.values.shape[1], tokens.values.shape[2]


def device(visit: Visit) -> Iterator[Finding]:
    """Check that the device is there, computes in the site's precision, and has the threads that are asked for."""
    config = needed(visit.config, "site file")
    visit.device = found = choose_device(config.device)
    name = torch.cuda.get_device_name(found) if found.type == "cuda" else f"{os.cpu_count()} cores"
    yield Finding("ok", f"{found} ({name}), {config.precision}, {config.threads or 'all'} threads")
    if config.precision != "fp32" and found.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        yield Finding("warning", f"{found} only emulates bf16", 'precision = "fp32" in the site file')
    if config.threads > (os.cpu_count() or config.threads):
        yield Finding(
            "warning", f"{config.threads} threads on {os.cpu_count()} cores", "lower threads in the site file"
        )


def memory(visit: Visit) -> Iterator[Finding]:
    """Check that weights and tokens fit into what is free; a training step's activations come on top."""
    config, found = needed(visit.config, "site file"), needed(visit.device, "device")
    weights, parts = 0, ""
    if visit.job is not None and config.unified is not None:
        whole = sizes(visit.job.settings.backbone, config.backbones, config.precision)
        visit.seen, weights = whole.seen, whole.weights
        parts = " (" + ", ".join(f"{part} {decimal(size)}" for part, size in whole.parts.items() if size) + ")"
    elif visit.job is not None:
        weights = weight_bytes(visit.job.settings.backbone, config.backbones, config.precision)
    findings = [
        enough(f"memory for weights{parts} and tokens", free_memory(), weights + _token_bytes(visit), _LESS)
    ]
    if found.type == "cuda":
        findings.append(
            enough(f"memory of {found} for weights", torch.cuda.mem_get_info(found)[0], weights, _LESS)
        )
    if all(finding.level != "failure" for finding in findings):
        visit.weights = weights
    yield from findings


def backbone(visit: Visit) -> Iterator[Finding]:
    """Check that the job's transformer takes its adapters; without a job, that the site's folders are there."""
    config = needed(visit.config, "site file")
    if visit.job is None:
        yield from _folders(config)
        return
    require_allowed(visit.kit.name, config, visit.job.settings)
    needed(visit.weights, "memory")
    settings = visit.job.settings
    place = SPLIT if config.device == SPLIT else str(needed(visit.device, "device"))
    options = (settings.backbone, config.backbones, config.precision, place)
    base = load_unified(*options).tower if config.unified else load_backbone(*options)
    digest, d = base_fingerprint(base, settings.backbone, config.backbones), width(base)
    for shape, tokenizer in _tokenized(visit, config):
        require_positions(positions(base), settings.backbone, shape[0], tokenizer)
    adapted = attach_update(base, settings, train_a=method_of(settings).trains_a)
    visit.spec = ModelSpec(shapes=lora.spec(adapted), backbone=digest, width=hidden_width(base))
    if visit.token_shape is not None:
        inputs = visit.token_shape[1] + (visit.paired_shape[1] if visit.paired_shape else 0)
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad) + inputs * d
        visit.shared = _shared_shapes(visit, config, d, visit.spec.width)
        visit.state_bytes = _SNAPSHOTS * 3 * 4 * trained  # each value with its two moments, float32
    yield Finding(
        "ok", f"{settings.backbone.name}: {len(visit.spec.shapes)} adapted layers; weights sha256 {digest}"
    )


def _tokenized(visit: Visit, config: SiteConfig) -> Iterator[tuple[tuple[int, int], str]]:
    """The shape of a sample's tokens and the tokenizer, of one modality or two, as far as they are known."""
    if visit.token_shape is not None:
        yield visit.token_shape, config.tokenizer
    if visit.paired_shape is not None and config.bridge is not None:
        yield visit.paired_shape, config.bridge.tokenizer


def _shared_shapes(visit: Visit, config: SiteConfig, d: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shapes of what the site shares within its groups: of its adapter (d, d_m) and of its head."""
    (length, d_m), draws = needed(visit.token_shape, "tokenizer"), torch.Generator()
    blank = Tokens(torch.zeros(2, 1, d_m), torch.ones(2, 1).bool())
    public = needed(visit.anchors, "anchors").concepts(needed(visit.modality, "site file").name)
    head = make_task(config, needed(visit.samples, "data")["train"], public).head(hidden, length, draws)
    modules = {"adapter": TokenAdapter(blank, d, 1.0, draws), "head": head}
    found = parameters_of(modules, [part for part in modules if part in config.share])
    return {name: tuple(parameter.shape) for name, parameter in found.items()}


def _folders(config: SiteConfig) -> Iterator[Finding]:
    absent = [name for name, folder in config.backbones.items() if not (Path(folder) / "config.json").is_file()]
    for name in absent:
        yield Finding(
            "failure", f"no config.json in {config.backbones[name]}", f"correct {name!r} under [backbones]"
        )
    if not absent:
        known = ", ".join(config.backbones) or "none: jobs name theirs by hub id"
        yield Finding("ok", f"[backbones] {known}; `--job FOLDER` loads the one that a job names")


def disk(visit: Visit) -> Iterator[Finding]:
    """Check that token cache and state can be written, and have room."""
    config = needed(visit.config, "site file")
    cached = visit.seen * sum(map(len, (visit.samples or {}).values())) or _token_bytes(visit)
    yield from room("token cache", Path(config.cache), cached or SPARE)
    state = Path(config.state) if config.state else visit.kit.folder / "fedgram"
    yield from room("state", state, visit.state_bytes or SPARE)


def _token_bytes(visit: Visit) -> int:
    """Bytes of all samples, pairs and anchors of this site, float32 with their mask; 0 while unknown."""
    if visit.token_shape is None or visit.samples is None or visit.modality is None:
        return 0
    sets = [found for found in (visit.anchors, visit.heldout) if found is not None]
    count = sum(map(len, visit.samples.values())) + sum(len(found.covered(visit.modality.name)) for found in sets)
    paired = sum(map(len, visit.pairs.values())) if visit.pairs else 0
    shapes = [(count, visit.token_shape), (paired, visit.paired_shape or (0, 0))]
    return sum(number * length * (4 * width + 1) for number, (length, width) in shapes)
