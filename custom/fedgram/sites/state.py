"""A site's optimiser, and a copy of all that changes while the site trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.model import lora
from fedgram.model.site_model import LocalModel
from fedgram.records import below

FORMAT = "3"  # of a saved state or result; counts up whenever tensors or facts in it get other names
_LOCAL, OPTIMIZER = "local/", "optimizer/"  # of tensor names in a saved state


def make_optimizer(model: LocalModel, job: JobConfig) -> torch.optim.Optimizer:
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


def set_rates(optimizer: torch.optim.Optimizer, job: JobConfig, round: int) -> None:
    """Give the optimiser of :func:`make_optimizer` the learning rates of a round, counted from 1."""
    settings = job.training
    over = (round - 1) / max(1, settings.rounds - 1)
    share = 1.0 - (1.0 - settings.final_rate) * over
    shared, local = optimizer.param_groups
    shared["lr"], local["lr"] = share * settings.learning_rate, share * settings.local_learning_rate


def snapshot(model: LocalModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """CPU copies, by name, of everything that changes while training.

    ``B/<layer>``, ``m/<layer>`` and ``A/<layer>`` are the update, whose shared part the next round overwrites;
    ``local/…`` is the site's own, ``optimizer/<index>/…`` the optimiser's moments.
    """
    tensors = {f"{_LOCAL}{k}": v.detach().cpu().clone() for k, v in model.local_state().items()}
    tensors |= lora.state(model.transformer)
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{index}/{k}": v.detach().cpu().clone() for k, v in moments.items()}
    return tensors


def local_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The site's own parameters in a :func:`snapshot`, as :meth:`LocalModel.local_state` names them."""
    return below(_LOCAL, tensors)


def restore(model: LocalModel, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring model and optimiser back to a :func:`snapshot`."""
    model.load_local_state(local_part(tensors))
    lora.load_state(model.transformer, {k: v for k, v in tensors.items() if not k.startswith((_LOCAL, OPTIMIZER))})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in below(OPTIMIZER, tensors).items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
