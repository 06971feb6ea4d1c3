"""What a site keeps after a run: its adapter, head and m beside the shared B, enough to use the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import singledispatch
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.errors import BackboneError, CheckpointError
from fedgram.files import write_tensors, write_text
from fedgram.modalities.base import Tokenizer
from fedgram.model import card as modelcard
from fedgram.model import lora, peft_checkpoint, tasks
from fedgram.pretrained import hub_id
from fedgram.sites.base import Participant
from fedgram.sites.single import Site, reopen
from fedgram.sites.state import OPTIMIZER, Trained, restore, snapshot

_RESIDUAL = "residual/"  # of tensor names: what a method has added to the base
_FACTS = ("site.json", "metrics.json")  # of a site's result, of the server's


@singledispatch
def save(site: Site, folder: Path, metrics: Mapping[str, float]) -> None:
    """Write a site's model as it is now.

    ``adapter/`` is a stock PEFT checkpoint with the shared B and this site's own m, and a model card;
    ``local.safetensors`` the linear adapters, the head and the update; ``site.json`` what is needed to open the
    site again. All of it stays here. Other kinds of sites than those of one modality register their own way.

    Args:
        metrics: on the site's test split, for the card.
    """
    facts = {
        "tokenizer": _print(site.tokenizer),
        "bridge_tokenizer": _print(site.bridge.tokenizer) if site.bridge else None,
        "task": tasks.to_facts(site.task),
    }
    write_trained(site, folder, facts)
    modelcard.write_site_card(
        folder / "adapter",
        job=site.job,
        backbone=site.spec.backbone,
        modality=f"{site.modality.name} with pairs in {site.bridge.modality.name}"
        if site.bridge
        else site.modality.name,
        task=site.config.task,
        counts={split: len(data) for split, data in site.data.items()},
        classes=getattr(site.task, "classes", ()),
        metrics=metrics,
    )


def write_trained(site: Participant, folder: Path, facts: Mapping[str, Any]) -> None:
    """What every kind of site keeps: its PEFT checkpoint, all that trained, and how to open it again.

    Args:
        facts: of this kind of site, for ``site.json``.
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
    trained = {k: v for k, v in snapshot(site.model, site.optimizer).items() if not k.startswith(OPTIMIZER)}
    residual = {f"{_RESIDUAL}{k}": v for k, v in lora.get_residual(transformer).items()}
    write_tensors(folder / "local.safetensors", {**trained, **residual})
    common = {
        "fedgram": __version__,
        "site": site.name,
        "site_config": dataclasses.asdict(site.config),
        "job": to_dict(site.job),
        "backbone": site.spec.backbone,
    }
    write_text(folder / "site.json", json.dumps({**common, **facts}, indent=2))


def read_trained(folder: Path) -> tuple[dict[str, Any], SiteConfig, JobConfig, dict[str, Tensor]]:
    """Undo :func:`write_trained`: facts, the site's file, the job, and all that trained.

    Raises:
        CheckpointError: no result there, or a damaged one.
    """
    facts, path = read_facts(folder)
    try:
        tensors, config, _ = load_file(folder / "local.safetensors"), facts["site_config"], facts["site"]
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})", where=folder) from error
    where = str(path)
    return facts, from_dict(SiteConfig, config, where), from_dict(JobConfig, facts["job"], where), tensors


def restore_trained(
    model: Trained, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], where: Path
) -> None:
    """Give a model what :func:`read_trained` found.

    Raises:
        CheckpointError: it is of another model.
    """
    residual = {k: v for k, v in tensors.items() if k.startswith(_RESIDUAL)}
    lora.set_residual(model.transformer, {k.removeprefix(_RESIDUAL): v for k, v in residual.items()})
    try:
        restore(model, optimizer, {k: v for k, v in tensors.items() if k not in residual})
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"does not fit its site.json ({type(error).__name__})", where=where) from error


def load(folder: Path) -> Site:
    """A site with the model it ended with, for use; see :func:`~fedgram.sites.single.reopen`.

    Raises:
        CheckpointError: no result there, a damaged one, or a tokenizer that is not the one of the run.
        FedgramError: the site cannot be opened any more (base or anchors edited, training data moved that the
            tokenizer is fitted on …).
    """
    facts, config, job, tensors = read_trained(folder)
    name, where = facts["site"], str(folder)
    if config.unified is not None:
        raise CheckpointError(
            "the result of a unified site", where=folder, remedy="fedgram.results.unified.load opens it"
        )
    if "task" not in facts:
        raise CheckpointError("damaged (no task)", where=folder)
    site = reopen(name, config, job, tasks.from_facts(facts["task"], where))
    require_base(site.spec.backbone, facts, job)
    _require_tokens(site.tokenizer, facts["tokenizer"], f"{name}: tokenizer {site.config.tokenizer!r}")
    if site.bridge is not None:
        of_bridge = f"{name}: tokenizer {site.bridge.settings.tokenizer!r} of the bridge"
        _require_tokens(site.bridge.tokenizer, facts["bridge_tokenizer"], of_bridge)
    restore_trained(site.model, site.optimizer, tensors, folder)
    return site


def read_facts(result: Path) -> tuple[dict[str, Any], Path]:
    """What a site or the server wrote about its result, and the file.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = next((result / name for name in _FACTS if (result / name).is_file()), None)
    if path is None:
        raise CheckpointError("no result of a run", where=result, expected=f"a folder with {' or '.join(_FACTS)}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _ = facts["job"], facts["backbone"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})", where=path) from None
    return facts, path


def require_base(found: str, facts: Mapping[str, Any], job: JobConfig) -> None:
    """Raises BackboneError unless the base weights are those that the update was trained on."""
    if found != facts["backbone"]:
        raise BackboneError(
            f"weights {found[:12]}…",
            where=f"backbone {job.backbone.name!r}",
            expected=f"weights {facts['backbone'][:12]}…, on which this result was trained",
            remedy="name the folder of that checkpoint",
        )


def _require_tokens(tokenizer: Tokenizer, expected: str, where: str) -> None:
    if _print(tokenizer) != expected:
        raise CheckpointError(
            "the tokenizer gives other tokens than in the run",
            where=where,
            remedy="restore its weights, and the training data if it is fitted on them, or run the job again",
        )


def _print(tokenizer: Tokenizer) -> str:
    return sha256(tokenizer.identity.encode()).hexdigest()
