"""Experts by modality in the manner of X-FLoRA (2025): one part of the ranks is common, the other particular.

Kept: LoRA experts that only sites of the same modality train together. Changed: the original translates images
and routes between experts, which has no meaning for sites of one modality each; here one half of the ranks is
averaged over all sites, the other half within a modality, and their sum is the update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import Closing
from fedgram.methods.per_modality import PerModality


class ModalityExperts(PerModality):
    """Half of the ranks is averaged over all sites, the other half within a modality."""

    name = "xflora"
    title = "modality experts"
    source = "after X-FLoRA, 2025"
    shares = "half of the ranks, the rest within a modality"

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if job.adapter.rank < 2:
            raise ConfigError(f"rank {job.adapter.rank}", where="method 'xflora'", expected="2 or more")

    def finish(self, round: Closing) -> dict[str, Tensor]:
        mixed = {modality: dict(mean) for modality, mean in round.means.items()}
        for name in next(iter(round.means.values())):
            common = torch.stack([round.shares[m] * mean[name] for m, mean in round.means.items()]).sum(0)
            for mean in mixed.values():
                mean[name] = self._with_common(name, mean[name], common)
        after, heard = super().finish(replace(round, means=mixed)), next(iter(mixed))
        for key, value in after.items():  # a modality that was not heard in this round goes along
            name = key.partition("/")[2]
            after[key] = self._with_common(name, value, after[f"{heard}/{name}"])
        return after

    def _first(self, name: str, like: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        """A or B of a layer where a modality begins: the common half is that of those that began before."""
        first, earlier = super()._first(name, like, known), next(iter(known), "").partition("/")[0]
        return self._with_common(name, first, known[f"{earlier}/{name}"]) if earlier else first

    def _with_common(self, name: str, own: Tensor, common: Tensor) -> Tensor:
        """A or B with the first half of its ranks taken from another."""
        half, part = self.job.adapter.rank // 2, own.clone()
        if name.startswith("A/"):
            part[:half] = common[:half]
        else:
            part[:, :half] = common[:, :half]
        return part
