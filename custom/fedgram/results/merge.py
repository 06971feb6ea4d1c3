"""Merging a result into its base: one Hugging Face checkpoint that needs neither PEFT nor fedgram."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.errors import CheckpointError
from fedgram.files import read_tensors
from fedgram.model.attaching import merge_checkpoint
from fedgram.model.backbone import fingerprint, load_backbone
from fedgram.model.peft_checkpoint import PREFIX
from fedgram.pretrained import quiet_loading
from fedgram.records import below
from fedgram.sites.kept import EXTRA, RESIDUAL, read_facts, read_trained, require_base


def merge(result: Path, out: Path, *, base: Path | None = None, bf16: bool = False) -> None:
    """Write the base with the update in its weights: W ← m (W + s B A) / ‖W + s B A‖, or W + R + s B A.

    R is what FLoRA and FedEx-LoRA have added to the base itself, which a PEFT checkpoint cannot say.

    The merged model gives the hidden states of the adapted one. A BERT's pooler is not part of it: fedgram pools
    over tokens; nor is the head of a language model, unless it is tied to the embeddings.

    Args:
        result: a site's result folder, or the server's (with ``adapter/``).
        out: a new folder.
        base: folder of the base; by default where the site had it, a packaged model or the hub.
        bf16: write rounded weights, half as large; the sum itself is in float32.

    Raises:
        CheckpointError: no result there, or ``out`` holds something.
        BackboneError: the base cannot be loaded, or is not the one that the update was trained on.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError("already exists", where=out, expected="a new folder")
    facts, path = read_facts(result)
    job = from_dict(JobConfig, facts["job"], str(path))
    folders: Mapping[str, str] = facts.get("site_config", {}).get("backbones", {})
    if base is not None:
        folders = {job.backbone.name: str(base)}
    backbone = load_backbone(job.backbone, folders)
    require_base(fingerprint(backbone), facts, job)
    residual = _residual(result, facts)
    for layer, r in residual.items():
        backbone.get_parameter(f"{layer.removeprefix(PREFIX)}.weight").add_(r)
    adapter = result / "adapter"  # the server of FLoRA has none: all of it is in R
    merged: Any = backbone if residual and not adapter.exists() else merge_checkpoint(backbone, adapter)
    with quiet_loading():
        # Names as the model has them: a language tower was renamed on loading; its old names are of the whole.
        (merged.to(torch.bfloat16) if bf16 else merged).save_pretrained(out, save_original_format=False)


def _residual(result: Path, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The residual R by layer, (d_out, d_in), of a site's result or the server's; empty without any."""
    if "site" in facts:
        return below(RESIDUAL, read_trained(result))
    extra = result / EXTRA
    return below("R/", read_tensors(extra, "copy the whole result folder again")[0]) if extra.exists() else {}
