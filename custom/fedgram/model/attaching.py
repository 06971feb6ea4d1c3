"""GeoLoRA and GeoDoRA put on a transformer, and a checkpoint of them merged into it.

The checkpoint is stock PEFT LoRA or DoRA, and `PeftModel.from_pretrained` loads it without this package. The
constants of the row norm belong to the W and A that `attach` found. Do not change the base weights, the dtype or A
of an attached model; merging and unmerging through PEFT is supported.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from fedgram.config.job import JobConfig
from fedgram.errors import BackboneError, CheckpointError
from fedgram.files import read_tensors
from fedgram.model.geo_linear import register
from fedgram.model.lora import adapted_layers


def geo_config(*, rank: int, alpha: float, targets: str | Sequence[str], dora: bool) -> LoraConfig:
    """Make the stock PEFT configuration of the adapter: no dropout, no bias, s = alpha / rank.

    Args:
        targets: suffixes of module names (``["q_proj", "v_proj"]``), or ``"all-linear"``.
        dora: train a magnitude m as well (GeoDoRA).
    """
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyrefly: ignore[bad-argument-type]  # PEFT only divides it: a float is as good
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=0.0,
        bias="none",
        use_dora=dora,
    )


def attach(
    backbone: nn.Module,
    *,
    rank: int,
    alpha: float,
    targets: str | Sequence[str],
    dora: bool,
    seed: int,
    train_a: bool = False,
) -> PeftModel:
    """Put adapters on a backbone: A from the seed, B = 0, m = ‖W‖_row, all else frozen; the output is unchanged.

    Choose dtype and quantisation of the backbone before. Torch's global random state is left as it was. With
    ``train_a``, which the row norm of DoRA does not allow, A trains too: plain LoRA.

    Raises:
        BackboneError: no module matches `targets`, or one that matches is not a linear layer.
    """
    config = geo_config(rank=rank, alpha=alpha, targets=targets, dora=dora)
    register(config)
    with torch.random.fork_rng(devices=[]), quiet_peft():
        try:
            model = get_peft_model(backbone, config)
        except ValueError as error:
            raise BackboneError(
                f"no adapter can be attached: {error}",
                where=type(backbone).__name__,
                remedy="choose targets among the linear layers that backbone.named_modules() lists",
            ) from error
    for name, layer in adapted_layers(model).items():
        layer.fix_constants(seed, name)
        layer.A.requires_grad_(train_a)
    return model


def attach_update(backbone: nn.Module, job: JobConfig, *, train_a: bool) -> nn.Module:
    """Put the adapter of a job on a backbone, as :func:`attach` does, with the A that the job's seed gives."""
    return attach(
        backbone,
        rank=job.adapter.rank,
        alpha=job.adapter.alpha,
        targets=job.adapter.peft_targets,
        dora=job.adapter.dora,
        seed=job.seed,
        train_a=train_a,
    )


@contextmanager
def quiet_peft() -> Generator[None]:
    """Silence a warning: PEFT 0.21 still asks transformers 5 for a property that it renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def merge_checkpoint(backbone: nn.Module, folder: str | Path) -> nn.Module:
    """Merge a PEFT checkpoint into the backbone's weights by stock PEFT: W + s B A, with m and norm for DoRA.

    Raises:
        CheckpointError: a file of it is missing or damaged. PEFT itself would ask the hub for it.
    """
    remedy = "copy the whole result folder again"
    path = Path(folder, "adapter_config.json")
    try:
        json.loads(path.read_text(encoding="utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"no adapter ({type(error).__name__})", where=path, remedy=remedy) from None
    read_tensors(path.with_name("adapter_model.safetensors"), remedy)
    with quiet_peft():
        return PeftModel.from_pretrained(backbone, str(folder)).merge_and_unload()
