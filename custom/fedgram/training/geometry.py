"""The losses over public anchors (Eklund 2026, eq. 2 and 3, and one beyond the paper), at any kind of site."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedgram.core.aggregate import target_gram
from fedgram.core.cka import cka
from fedgram.core.concepts import concept_logits
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates
from fedgram.model import lora
from fedgram.sites.base import Site

_TEMPERATURE = 0.1  # of the concept loss: cosines of ±1 become logits of ±10


def represent_anchors(site: Site) -> Tensor:
    """Represent the anchors that the site covers, as the geometry may change it: z, (b, d).

    No gradient reaches m: the paper applies R_geo "exclusively to the directional component D". Nor does any
    reach the local adapter W_m, unless the job lets the geometry loss train the whole pipeline.
    """
    adapter_learns = site.job.training.geometry_trains == "pipeline"
    with lora.detached_m(site.model.transformer):
        return site.model.represent(site.anchors.tokens.to(site.device), adapter_learns=adapter_learns)


def anchor_alignment(site: Site, anchors: Tensor, consensus: Tensor) -> Tensor:
    """CKA(G, Ḡ) of eq. (3) on the slots that the site covers."""
    gram = cosine_gram(anchors)
    return cka(gram, target_gram(consensus, gram, site.anchors.slots), site.job.training.cka)


def concept_loss(site: Site, z: Tensor, rows: Tensor, anchors: Tensor, consensus: Tensor | None) -> Tensor:
    """Cross-entropy of naming a sample's concept by where it lies among the anchors: :func:`concept_logits`.

    Samples of a concept that the site's anchors do not have count for nothing.
    """
    return mean_over_known(*concept_answers(site, z, rows, anchors, consensus))


def concept_answers(
    site: Site, z: Tensor, rows: Tensor, anchors: Tensor, consensus: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The logits of samples by concept, (N, C), and their concepts, (N,), −100 where the anchors have none of it.

    What the coordinates of a concept are is the consensus; a site that trains alone takes its own geometry.
    """
    gram = cosine_gram(anchors).detach()
    if consensus is not None:
        gram = target_gram(consensus, gram, site.anchors.slots)
    own, index = site.data["fit"].concepts, _concept_index(site)
    targets = torch.tensor([index.get(str(own[i]), -100) for i in rows.tolist()], device=z.device)
    return concept_logits(anchor_coordinates(z, anchors), gram, anchor_concepts(site), _TEMPERATURE), targets


def mean_over_known(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the samples whose concept is known; 0 where there is none."""
    return logits.new_zeros(()) if (targets < 0).all() else cross_entropy(logits, targets)


def anchor_concepts(site: Site) -> Tensor:
    """Index of the concept of each anchor that the site covers, in the alphabetical order of concepts, (b,)."""
    concepts, index = site.job.anchors.concepts, _concept_index(site)
    return torch.tensor([index[concepts[slot]] for slot in site.anchors.slots], device=site.device)


def _concept_index(site: Site) -> dict[str, int]:
    present = {site.job.anchors.concepts[slot] for slot in site.anchors.slots}
    return {concept: i for i, concept in enumerate(sorted(present))}
