"""FedAvg on both factors of LoRA (Zhang et al. 2024, "FedIT").

Kept: A and B train, and each is averaged by itself, weighted by samples. The mean of the products is not the
product of the means; FLoRA and FedEx-LoRA answer that. Changed: A starts from the seed of the job, so that it is
the same everywhere in the first round; each site has its own linear adapter and head, which stay there.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedgram.core.dora import frozen_a
from fedgram.methods.base import Closing, Method, SiteView
from fedgram.model import lora
from fedgram.records import WIRE_DTYPE, GlobalState, ModelSpec, below


class FedIT(Method):
    """A and B are averaged."""

    name = "fedit"
    title = "FedIT"
    source = "Zhang et al. 2024"
    shares = "A and B, each averaged"
    trains_a = True
    sends_what = "the change of A, (r, d_in) a layer, bf16"

    def shares_a(self, layer: str) -> bool:
        """Whether A of a layer is averaged."""
        return True

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return {f"A/{k}": (r, d_in) for k, (_, r, d_in) in spec.shapes.items() if self.shares_a(k)}

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        return {
            f"A/{k}": frozen_a(self.job.seed, k, r, d_in)
            for k, (_, r, d_in) in spec.shapes.items()
            if self.shares_a(k)
        }

    def finish(self, round: Closing) -> dict[str, Tensor]:
        return {k: a + round.step(k, round.mean[k]) for k, a in round.before.extra.items() if k.startswith("A/")}

    def adopt(self, site: SiteView, state: GlobalState) -> None:
        lora.set_A(site.model.transformer, factors_of(state.extra, "A"))

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        trained = lora.get_A(site.model.transformer)
        return {
            f"A/{k}": (trained[k] - a).to(WIRE_DTYPE).contiguous() for k, a in factors_of(state.extra, "A").items()
        }


def factor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of A and B of every layer, as ``A/<layer>`` and ``B/<layer>``."""
    shapes = spec.shapes.items()
    return {f"A/{k}": (r, d_in) for k, (_, r, d_in) in shapes} | {
        f"B/{k}": (d_out, r) for k, (d_out, r, _) in shapes
    }


def factors_of(extra: Mapping[str, Tensor], factor: str) -> dict[str, Tensor]:
    """The tensors of one factor (``A``, ``B`` or ``R``) among a state's extras, by layer name."""
    return below(f"{factor}/", extra)
