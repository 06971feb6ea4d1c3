"""FLoRA (Wang et al. 2024): the factors of all sites are stacked, so that the sum of the products is exact.

Kept: every round starts from fresh factors; the sites send A and B as they are; the sum Σ p_k B_k A_k goes into
the base weights. Changed: the original sends the stack back, and each site multiplies it out; here the server
does, and sends the running sum R itself, because a site that missed rounds needs all of them (and after a few
rounds the stack is the larger one). The checkpoint of a site holds its last factors; R stands beside it. W + R is
rounded to the precision of the base: bf16 loses a third of an R whose entries are 200 times smaller than those of
W, so compare methods on bases in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.core.dora import frozen_a
from fedgram.methods.base import Closing, Method, SiteView
from fedgram.methods.fedit import factor_shapes, factors_of
from fedgram.model import lora
from fedgram.records import WIRE_DTYPE, GlobalState, ModelSpec, SiteUpdate


class FLoRA(Method):
    """The weighted sum of the products s B A is added to the base."""

    name = "flora"
    title = "FLoRA"
    source = "Wang et al. 2024"
    shares = "A and B, their products summed into the base"
    trains_a = True
    sends_whole_factors = True
    sends_what = "A, (r, d_in), and B, (d_out, r), a layer, bf16"

    def shares_b(self, layer: str) -> bool:
        return False

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return factor_shapes(spec)

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        return empty_residual(spec)

    def terms(self, update: SiteUpdate, state: GlobalState) -> Mapping[str, Tensor]:
        a, b = factors_of(update.extra, "A"), factors_of(update.extra, "B")
        return {f"R/{k}": self.job.adapter.scale * b[k].double() @ a[k].double() for k in a}

    def finish(self, round: Closing) -> dict[str, Tensor]:
        return {k: r + round.step(k, round.mean[k]) for k, r in round.before.extra.items()}

    def adopt(self, site: SiteView, state: GlobalState) -> None:
        model = site.model.transformer
        lora.set_residual(model, factors_of(state.extra, "R"))
        fresh = {
            k: frozen_a(self.job.seed, f"{k}, round {state.round}", r, d_in)
            for k, (_, r, d_in) in site.spec.shapes.items()
        }
        lora.set_A(model, fresh)
        lora.set_B(model, {k: torch.zeros_like(b) for k, b in lora.get_B(model).items()})
        for parameter in model.parameters():  # moments of other factors mean nothing to these
            site.optimizer.state.pop(parameter, None)

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        trained = lora.state(site.model.transformer)
        return {k: v.to(WIRE_DTYPE).contiguous() for k, v in trained.items()}


def empty_residual(spec: ModelSpec) -> dict[str, Tensor]:
    """R = 0 for every layer, (d_out, d_in), float32."""
    return {f"R/{k}": torch.zeros(d_out, d_in) for k, (d_out, _, d_in) in spec.shapes.items()}
