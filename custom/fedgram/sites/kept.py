"""The files that a site keeps after a run: its adapters, head and m beside the shared B, enough to use it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.errors import BackboneError, CheckpointError
from fedgram.files import read_tensors, write_tensors, write_text
from fedgram.model import lora, peft_checkpoint
from fedgram.model.site_model import LocalModel
from fedgram.pretrained import hub_id
from fedgram.records import below
from fedgram.sites.base import Site
from fedgram.sites.state import FORMAT, OPTIMIZER, restore, snapshot

LOCAL, STATISTICS = "local.safetensors", "statistics.json"
EXTRA = "extra.safetensors"  # of a server's result: what the method shares besides B and m
RESIDUAL = "residual/"  # of tensor names: what a method has added to the base
_REMEDY = "restore it from a backup, or run the job again"
_FACTS = ("site.json", "metrics.json")  # of a site's result, of the server's


def write_kept(
    site: Site, folder: Path, facts: Mapping[str, Any], statistics: Sequence[Mapping[str, Any] | None] = ()
) -> None:
    """Write what every kind of site keeps.

    ``adapter/`` is a stock PEFT checkpoint with the shared B and this site's own m; ``local.safetensors`` holds
    the linear adapters, the head and the update; ``statistics.json`` what its tokenizers took of the training
    samples; ``site.json`` is what it takes to open the site again. All of it stays here.

    Args:
        facts: of this kind of site, for ``site.json``.
        statistics: of each tokenizer; None of one that cannot do without the samples themselves.
    """
    transformer, settings = site.model.transformer, site.job.adapter
    peft_checkpoint.save_adapter(
        folder / "adapter",
        B=lora.get_B(transformer),
        m=lora.get_m(transformer),
        A=lora.get_A(transformer) if site.method.trains_a else {},
        shapes=site.spec.shapes,
        seed=site.job.seed,
        rank=settings.rank,
        alpha=settings.alpha,
        base_model=hub_id(site.job.backbone.name),
    )
    write_tensors(folder / LOCAL, trained_state(site))
    write_text(folder / STATISTICS, json.dumps(statistics))
    common = {
        "fedgram": __version__,
        "format": FORMAT,
        "site": site.name,
        "site_config": dataclasses.asdict(dataclasses.replace(site.config, secret="")),
        "job": to_dict(site.job),
        "backbone": site.spec.backbone,
    }
    write_text(folder / "site.json", json.dumps({**common, **facts}, indent=2))


def read_kept(folder: Path) -> tuple[dict[str, Any], SiteConfig, JobConfig, dict[str, Tensor]]:
    """Read what :func:`write_kept` wrote: facts, the site's file, the job, and all that trained.

    Raises:
        CheckpointError: no result there, a damaged one, or one of another version.
    """
    facts, path = read_facts(folder)
    try:
        config, _ = facts["site_config"], facts["site"]
    except KeyError as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})", where=folder) from error
    tensors, where = read_trained(folder), str(path)
    return facts, from_dict(SiteConfig, config, where), from_dict(JobConfig, facts["job"], where), tensors


def read_trained(folder: Path) -> dict[str, Tensor]:
    """Read all that trained, as :func:`trained_state` gave it.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return read_tensors(folder / LOCAL, _REMEDY)[0]


def read_statistics(folder: Path, tokenizers: int) -> list[Mapping[str, Any] | None]:
    """Read the statistics of so many tokenizers; None of each whose training samples have to be read again.

    Raises:
        CheckpointError: damaged.
    """
    path = folder / STATISTICS
    if not path.is_file():
        return [None] * tokenizers
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"damaged ({type(error).__name__})", where=path, remedy=_REMEDY) from None
    if not isinstance(found, list) or len(found) != tokenizers:
        raise CheckpointError(f"damaged (not of {tokenizers} tokenizers)", where=path, remedy=_REMEDY)
    return found


def trained_state(site: Site) -> dict[str, Tensor]:
    """Copy all that trained at a site, without the optimiser's moments."""
    trained = {k: v for k, v in snapshot(site.model, site.optimizer).items() if not k.startswith(OPTIMIZER)}
    return trained | {f"{RESIDUAL}{k}": v for k, v in lora.get_residual(site.model.transformer).items()}


@contextmanager
def lent(site: Site, tensors: Mapping[str, Tensor], where: Path) -> Generator[None]:
    """Lend a site what another model of the same shape has learnt, and give it its own back.

    Raises:
        CheckpointError: it is of another model.
    """
    own = trained_state(site)
    try:
        restore_kept(site.model, site.optimizer, tensors, where)
        yield
    finally:
        restore_kept(site.model, site.optimizer, own, where)


def restore_kept(
    model: LocalModel, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], where: Path
) -> None:
    """Give a model what :func:`read_kept` found.

    Raises:
        CheckpointError: it is of another model.
    """
    lora.drop_residual(model.transformer)
    lora.set_residual(model.transformer, below(RESIDUAL, tensors))
    try:
        restore(model, optimizer, {k: v for k, v in tensors.items() if not k.startswith(RESIDUAL)})
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"does not fit its site.json ({type(error).__name__})", where=where) from error


def read_facts(result: Path) -> tuple[dict[str, Any], Path]:
    """Read the facts that a site or the server wrote about its result, and name their file.

    Raises:
        CheckpointError: there is none, it is damaged, or another version of fedgram wrote it.
    """
    path = next((result / name for name in _FACTS if (result / name).is_file()), None)
    if path is None:
        raise CheckpointError("no result of a run", where=result, expected=f"a folder with {' or '.join(_FACTS)}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _ = facts["job"], facts["backbone"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})", where=path) from None
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            "saved by another version of fedgram",
            where=path,
            expected=f"format {FORMAT}",
            remedy="open it with the version that saved it, or run the job again",
        )
    return facts, path


def require_base(found: str, facts: Mapping[str, Any], job: JobConfig) -> None:
    """Raise BackboneError unless the base weights are those that the update was trained on."""
    if found != facts["backbone"]:
        raise BackboneError(
            f"weights {found[:12]}…",
            where=f"backbone {job.backbone.name!r}",
            expected=f"weights {facts['backbone'][:12]}…, on which this result was trained",
            remedy="name the folder of that checkpoint",
        )
