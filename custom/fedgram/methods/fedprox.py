"""FedProx (Li et al. 2020) on LoRA: a site must not go far from where the round began.

Kept: ½ μ ‖θ − θ_global‖² in the local loss, μ the ``strength`` of the method. Changed: θ are the shared factors A
and B of LoRA; the linear adapter and the head are private and free.
"""

from __future__ import annotations

from torch import Tensor

from fedgram.methods.base import PLAIN, SiteView, TaskLoss, merged
from fedgram.methods.fedit import FedIT, factors_of
from fedgram.model import lora
from fedgram.records import GlobalState


class FedProx(FedIT):
    """FedIT with a proximal term."""

    name = "fedprox"
    title = "FedProx"
    source = "Li et al. 2020"
    shares = "A and B, each averaged"
    settings = merged(PLAIN, {"method": {"strength": 0.1}})

    def penalty(self, site: SiteView, state: GlobalState, task: TaskLoss) -> Tensor | None:
        shared = factors_of(state.extra, "A")
        distance = task.loss.new_zeros(())
        for name, layer in lora.adapted_layers(site.model.transformer).items():
            distance += (layer.B - state.B[name].to(layer.B)).square().sum()
            distance += (layer.A - shared[name].to(layer.A)).square().sum()
        return 0.5 * self.job.method.strength * distance
