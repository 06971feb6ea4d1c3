"""A site's state between rounds: adapter, head, update and the optimiser's moments, on disk after every round."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedgram.config.job import JobConfig
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.model import lora
from fedgram.records import below


class Trained(Protocol):
    """A site's model, of whatever kind: the shared transformer, and what is the site's own."""

    @property
    def transformer(self) -> nn.Module: ...
    def local(self) -> Mapping[str, nn.Module]: ...
    def local_state(self) -> dict[str, Tensor]: ...
    def load_local_state(self, state: dict[str, Tensor]) -> None: ...


_LOCAL, OPTIMIZER = "local/", "optimizer/"  # of tensor names in a saved state
_KEPT_ROUNDS = 2  # a server that restarts may ask for the round that a site has already done


def make_optimizer(model: Trained, job: JobConfig) -> torch.optim.Optimizer:
    """AdamW over the shared update and, at its own rate, over the local adapters and head."""
    settings = job.training
    shared = [p for p in model.transformer.parameters() if p.requires_grad]
    local = [p for module in model.local().values() for p in module.parameters()]
    return torch.optim.AdamW(
        [
            {"params": shared, "lr": settings.learning_rate, "weight_decay": 0.0},
            {"params": local, "lr": settings.local_learning_rate, "weight_decay": settings.weight_decay},
        ]
    )


def snapshot(model: Trained, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """CPU copies, by name, of everything that changes while training.

    ``B/<layer>``, ``m/<layer>`` and ``A/<layer>`` are the update, whose shared part the next round overwrites;
    ``local/…`` is the site's own, ``optimizer/<index>/…`` the optimiser's moments.
    """
    tensors = {f"{_LOCAL}{k}": v.detach().cpu().clone() for k, v in model.local_state().items()}
    tensors |= lora.state(model.transformer)
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{index}/{k}": v.detach().cpu().clone() for k, v in moments.items()}
    return tensors


def restore(model: Trained, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring model and optimiser back to a :func:`snapshot`."""
    model.load_local_state(below(_LOCAL, tensors))
    lora.load_state(model.transformer, {k: v for k, v in tensors.items() if not k.startswith((_LOCAL, OPTIMIZER))})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in below(OPTIMIZER, tensors).items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def save_round(folder: Path, round: int, tensors: Mapping[str, Tensor]) -> None:
    """Keep the state after a round; the last two stay."""
    write_tensors(folder / f"round-{round:05d}.safetensors", tensors)
    for old in sorted(folder.glob("round-*.safetensors"))[:-_KEPT_ROUNDS]:
        old.unlink()


def load_before(folder: Path, round: int) -> dict[str, Tensor] | None:
    """The latest state of a round before ``round``, or None when the site has not trained before it.

    Raises:
        CheckpointError: the file is damaged.
    """
    earlier = [p for p in sorted(folder.glob("round-*.safetensors")) if int(p.stem.removeprefix("round-")) < round]
    if not earlier:
        return None
    try:
        return load_file(earlier[-1])
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"damaged ({error})", where=earlier[-1], remedy="delete it: the site goes on from the state before it"
        ) from error


def forget_other_runs(folder: Path, run: str) -> None:
    """Remove the round states of earlier runs in a site's state folder."""
    for other in folder.glob("run-*"):
        if other.name != f"run-{run}":
            shutil.rmtree(other, ignore_errors=True)
