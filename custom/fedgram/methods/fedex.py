"""FedEx-LoRA (Singhal et al. 2025): FedIT, and what its mean loses is added to the base.

Kept: A and B are averaged by themselves; the residual Σ p_k s B_k A_k − s B̄ Ā is added to the base weights, as R.
Changed: as in FedIT; the server sends the running sum of the residuals, dense, as a site may have missed rounds.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedgram.methods.base import Closing, SiteView
from fedgram.methods.fedit import FedIT, factors_of
from fedgram.methods.flora import empty_residual
from fedgram.model import lora
from fedgram.records import GlobalState, ModelSpec, SiteUpdate


class FedExLoRA(FedIT):
    """A and B are averaged, and the error of that is added to the base."""

    name = "fedex"
    title = "FedEx-LoRA"
    source = "Singhal et al. 2025"
    shares = "A and B, each averaged, with the exact residual"

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        return super().start(spec) | empty_residual(spec)

    def terms(self, update: SiteUpdate, state: GlobalState) -> Mapping[str, Tensor]:
        a, changes = factors_of(state.extra, "A"), factors_of(update.extra, "A")
        products = {
            f"R/{k}": self.job.adapter.scale
            * (state.B[k].double() + update.delta_B[k].double())
            @ (a[k].double() + changes[k].double())
            for k in a
        }
        return {**update.extra, **products}

    def finish(self, round: Closing) -> dict[str, Tensor]:
        after = super().finish(round)
        before = factors_of(round.before.extra, "R")
        for layer, a in factors_of(after, "A").items():
            exact = round.mean[f"R/{layer}"]
            averaged = self.job.adapter.scale * round.B[layer].double() @ a.double()
            after[f"R/{layer}"] = (before[layer].double() + exact - averaged).float()
        return after

    def adopt(self, site: SiteView, state: GlobalState) -> None:
        super().adopt(site, state)
        lora.set_residual(site.model.transformer, factors_of(state.extra, "R"))
