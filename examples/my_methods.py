"""A method of one's own: the mean of B, in which no site counts for more than its change is long.

Norm clipping (Sun et al. 2019, "Can you really backdoor federated learning?"): a change that is longer than the
job's ``method.strength`` is scaled down to it, so that one loud site cannot drag the model away. A small wrong
change is not noticed. A job names it ``my_methods:ClippedMean``; every site and the server must have this file on
their Python path, and list that name under ``methods`` in their own files.
"""

import torch
from fedgram.methods import Method
from fedgram.model import lora
from fedgram.records import WIRE_DTYPE, below


class ClippedMean(Method):
    """The mean of the sites' changes of B, each at most ``method.strength`` long."""

    title = "clipped mean"
    source = "after Sun et al. 2019"
    shares = "B, the change of each site clipped"
    sends_what = "the change of B, (d_out, r) a layer, bf16, in the place of ΔB"

    def shares_b(self, layer):
        return False  # not averaged as it is, but below

    def sends(self, spec):
        return {f"B/{layer}": (d_out, r) for layer, (d_out, r, _) in spec.shapes.items()}

    def start(self, spec):
        return {name: torch.zeros(shape) for name, shape in self.sends(spec).items()}

    def adopt(self, site, state):
        lora.set_B(site.model.transformer, below("B/", state.extra))

    def extra(self, site, state):
        trained = lora.get_B(site.model.transformer)
        return {f"B/{k}": (b - state.extra[f"B/{k}"]).to(WIRE_DTYPE).contiguous() for k, b in trained.items()}

    def terms(self, update, state):
        length = torch.stack([change.double().square().sum() for change in update.extra.values()]).sum().sqrt()
        scale = (self.job.method.strength / length).clamp(max=1.0)
        return {name: scale * change.double() for name, change in update.extra.items()}

    def finish(self, round):
        return {name: b + round.step(name, round.mean[name]) for name, b in round.before.extra.items()}
