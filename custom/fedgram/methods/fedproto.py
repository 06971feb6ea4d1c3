"""FedProto (Tan et al. 2022): the sites share the mean representation of each class, no weights.

Kept: local prototypes, their mean over the sites that have the class, and λ times the squared distance of a sample
from its class's global prototype in the loss (λ the ``strength``). Changed: the classes are the concepts of the
anchors; the distance is divided by the width d, so that one λ fits all backbones; a site has one weight for all
its classes, which the job chooses (weights by class would tell how many samples of each a site has).

A prototype is the mean of private samples: more than GeoLoRA tells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.methods.base import Closing, SiteView, TaskLoss
from fedgram.methods.local import Local
from fedgram.records import GlobalState, ModelSpec


class FedProto(Local):
    """Class means are averaged. :attr:`GlobalState.extra`: ``prototypes`` (C, d) and ``known`` (C,), 0 or 1."""

    name = "fedproto"
    title = "FedProto"
    source = "Tan et al. 2022"
    shares = "class means"
    needs_labels = True
    sends_what = "the mean representation of the training samples of each concept, (C, d), float32"

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return {"prototypes": (len(self._concepts), spec.width), "known": (len(self._concepts),)}

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        return {name: torch.zeros(shape) for name, shape in self.sends(spec).items()}

    def finish(self, round: Closing) -> dict[str, Tensor]:
        return mean_of_those_known(round.before, round.mean, "prototypes", "known")

    def penalty(self, site: SiteView, state: GlobalState, task: TaskLoss) -> Tensor | None:
        z, concepts = self._known_samples(site, state, task)
        if not len(concepts):
            return None
        targets = state.extra["prototypes"][concepts].to(z)
        return self.job.method.strength * (z - targets).square().mean(1).sum() / len(task.samples()[1])

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        z, concepts = site.model.embed(site.data["train"].tokens), self._concepts_of(site, "train")
        prototypes, known = (torch.zeros(shape) for shape in self.sends(site.spec).values())
        for index in concepts.unique().tolist():
            if index >= 0:
                prototypes[index], known[index] = z[concepts == index].mean(0), 1.0
        return {"prototypes": prototypes, "known": known}

    @property
    def _concepts(self) -> list[str]:
        return sorted(set(self.job.anchors.concepts))

    def _known_samples(self, site: SiteView, state: GlobalState, task: TaskLoss) -> tuple[Tensor, Tensor]:
        """The samples of a batch whose concept has a global prototype, (n, d), and those concepts, (n,)."""
        z, rows = task.samples()
        concepts = self._concepts_of(site, "fit")[rows]
        there = (concepts >= 0) & state.extra["known"].bool()[concepts]
        return z[there.to(z.device)], concepts[there]

    def _concepts_of(self, site: SiteView, part: str) -> Tensor:
        """Index of the concept of every sample of a part, (N,), int64; −1 where the anchors know none."""
        index = {concept: i for i, concept in enumerate(self._concepts)}
        return torch.tensor([index.get(concept, -1) for concept in site.data[part].concepts])


def mean_of_those_known(
    state: GlobalState, mean: Mapping[str, Tensor], what: str, known: str
) -> dict[str, Tensor]:
    """Rows averaged over the sites that have them; a row that nobody has stays what it was.

    Args:
        mean: over all sites, of ``what``, (n, d), with rows of zeros where a site has none, and ``known``, (n,).
    """
    there = mean[known] > 0
    rows = mean[what] / mean[known].clamp(min=1e-9)[:, None]
    rows = torch.where(there[:, None], rows, state.extra[what].double())
    return {what: rows.float(), known: torch.maximum(state.extra[known], there.float())}
