"""Averages within a modality: sites with the same kind of data train together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.core.dora import frozen_a
from fedgram.methods.base import Closing, Method, SiteView
from fedgram.methods.fedit import factor_shapes, factors_of
from fedgram.model import lora
from fedgram.records import WIRE_DTYPE, GlobalState, ModelSpec, below


class PerModality(Method):
    """FedAvg on A and B among the sites of one modality: what federated learning does without fedgram.

    With one site a modality it is training alone. :attr:`GlobalState.extra` holds ``<modality>/A/<layer>`` and
    ``<modality>/B/<layer>``.
    """

    name = "per_modality"
    title = "average within a modality"
    shares = "A and B within a modality"
    trains_a = True
    by_modality = True
    sends_what = "the change of A, (r, d_in), and of B, (d_out, r), a layer, bf16"

    def shares_b(self, layer: str) -> bool:
        return False

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return factor_shapes(spec)

    def finish(self, round: Closing) -> dict[str, Tensor]:
        after = dict(round.before.extra)
        for modality, mean in round.means.items():
            for name, change in mean.items():
                moved = round.step(f"{modality}/{name}", change)
                before = round.before.extra.get(f"{modality}/{name}", self._first(name, moved, round.before.extra))
                after[f"{modality}/{name}"] = before + moved
        return after

    def adopt(self, site: SiteView, state: GlobalState) -> None:
        own = self._own(site, state)
        lora.set_A(site.model.transformer, factors_of(own, "A"))
        lora.set_B(site.model.transformer, factors_of(own, "B"))

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        own, trained = self._own(site, state), lora.state(site.model.transformer)
        return {k: (v - own[k]).to(WIRE_DTYPE).contiguous() for k, v in trained.items()}

    def _own(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        """A and B of the site's modality, as the last round of its sites left them."""
        own = below(f"{site.modality.name}/", state.extra)
        shapes = self.sends(site.spec)
        return {k: own[k] if k in own else self._first(k, torch.empty(s), state.extra) for k, s in shapes.items()}

    def _first(self, name: str, like: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        """A or B of a layer where a modality begins: the others, which are ``known``, have no part in it."""
        factor, _, layer = name.partition("/")
        return frozen_a(self.job.seed, layer, *like.shape) if factor == "A" else torch.zeros(like.shape)
