"""Contrast of public representations in the manner of CreamFL (Yu et al. 2023), no weights shared.

Kept: the sites send their representations of public data, the server combines them, and each site pulls its own
representation of a public sample to the global one of the same sample and away from those of the others
(inter-modal contrast, with the method's ``temperature`` and ``strength``). Changed: the public samples are the
anchor slots, each in the site's own modality; the original also trains a large model at the server by
distillation and contrasts with the site's own last model; both are left out, and the mean is over unit vectors.

Representations leave the site: more than GeoLoRA's cosines between them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fedgram.methods.base import PLAIN, Closing, SiteView, TaskLoss, merged
from fedgram.methods.fedproto import mean_of_those_known
from fedgram.methods.local import Local
from fedgram.records import GlobalState, ModelSpec


class CreamFL(Local):
    """Representations of the anchors are averaged: ``public`` (B, d) and ``covered`` (B,), 0 or 1."""

    name = "creamfl"
    title = "CreamFL"
    source = "after Yu et al. 2023"
    shares = "representations of the anchors"
    needs_labels = True
    settings = merged(PLAIN, {"method": {"strength": 0.3}})
    sends_what = "the representation of every public anchor, (B, d), float32"

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return {"public": (self.job.anchors.slots, spec.width), "covered": (self.job.anchors.slots,)}

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        return {name: torch.zeros(shape) for name, shape in self.sends(spec).items()}

    def finish(self, round: Closing) -> dict[str, Tensor]:
        return mean_of_those_known(round.before, round.mean, "public", "covered")

    def penalty(self, site: SiteView, state: GlobalState, task: TaskLoss) -> Tensor | None:
        slots, device = torch.tensor(site.anchors.slots), task.loss.device
        covered = state.extra["covered"].bool()
        known = covered[slots]  # none before the first round; later all that a site has sent
        if not known.any():
            return None
        public = normalize(state.extra["public"].to(device), dim=-1)
        own = normalize(site.model.represent(site.anchors.tokens.to(device)), dim=-1)
        similarity = own @ public[covered.to(device)].T / self.job.method.temperature
        place = covered.cumsum(0)[slots[known]] - 1
        return self.job.method.strength * cross_entropy(similarity[known.to(device)], place.to(device))

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        slots = torch.tensor(site.anchors.slots)
        public, covered = (torch.zeros(shape) for shape in self.sends(site.spec).values())
        public[slots], covered[slots] = normalize(site.model.embed(site.anchors.tokens), dim=-1), 1.0
        return {"public": public, "covered": covered}
