"""FedSAF (Wu et al. 2026, arXiv 2605.05959): class prototypes are shared, and only their relations are matched.

Kept: local prototypes and their mean, as in FedProto; a site is drawn to how the global prototypes lie to one
another, and not to where they lie, so that its own basis is left alone. Our reading: the paper splits the distance
to a prototype into shape and rigid motion, and has two losses for the shape (GCSA and RCSA), of which we had the
abstract and not the formulas. Here the cosines of a sample to the site's own prototypes approach those of its
class's global prototype to all of them, by :func:`~fedgram.core.structure.structure_loss`. Changed: the site's own
prototypes are those of the batch, because a method has no state; the classes are the concepts of the anchors.

A prototype is the mean of private samples, and leaves the site as in FedProto.
"""

from __future__ import annotations

from torch import Tensor

from fedgram.core.structure import structure_loss
from fedgram.methods.base import SiteView, TaskLoss
from fedgram.methods.fedproto import FedProto
from fedgram.records import GlobalState


class FedSAF(FedProto):
    """Class means are averaged as in :class:`FedProto`; their relations are the target."""

    name = "fedsaf"
    title = "FedSAF"
    source = "after Wu et al. 2026"

    def penalty(self, site: SiteView, state: GlobalState, task: TaskLoss) -> Tensor | None:
        z, concepts = self._known_samples(site, state, task)
        if len(concepts.unique()) < 2:  # one class has no relations
            return None
        prototypes = state.extra["prototypes"].to(z)
        return self.job.method.strength * structure_loss(z, concepts.to(z.device), prototypes)
