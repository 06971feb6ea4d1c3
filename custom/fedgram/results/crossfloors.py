"""Floors of the questions across modalities: answers from frozen tokens, without any training of a model.

A sample or an anchor is the mean of its frozen tokens: see :mod:`fedgram.scoring.floors`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fedgram.core.relative import cross_similarity
from fedgram.model.tasks.labels import Classification
from fedgram.records import Sample
from fedgram.results.alignment import right_at_1
from fedgram.results.crossmodal import common_slots
from fedgram.results.intervals import WithInterval, share
from fedgram.scoring.floors import FLOORED, fitted_floors, nearest_mean
from fedgram.scoring.frozen import frozen
from fedgram.sites.anchored import labelled_anchors, with_labelled_anchors
from fedgram.sites.single import SingleSite, own_samples

_ALPHAS = np.logspace(-2, 5, 8)  # of the ridge regression between anchors
_LEAST = 3  # anchors that say anything of a map, one left out


@dataclass(frozen=True)
class FrozenSite:
    """A site's test samples and anchors as its frozen tokenizer shows them.

    Attributes:
        site: whose.
        concepts, groups: of the N test samples.
        test: (N, d_m), means of their tokens.
        anchors: (b, d_m), of the anchors that the site covers, in slot order.
        probabilities: of each class of the site's task, (N,), by a logistic regression; empty for another task.
    """

    site: SingleSite
    concepts: Sequence[str]
    groups: Sequence[str]
    test: np.ndarray
    anchors: np.ndarray
    probabilities: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RetrievalFloors:
    """P@1 of retrieval between two sites' test samples by floor; None where one is not defined.

    Attributes:
        class_probabilities: by cosine between what two logistic regressions say of the classes of both.
        ridge_on_anchors: by cosine after a ridge regression from anchor tokens to anchor tokens. Its anchors are
            of one thing where the set is paired, and of one concept where it is not.
    """

    query: str
    gallery: str
    class_probabilities: WithInterval | None
    ridge_on_anchors: WithInterval | None


@dataclass(frozen=True)
class TransferFloors:
    """Accuracy in naming a concept without labels by the nearest class mean of the asking site's own anchors."""

    query: str
    teacher: str
    concept: str
    own_anchors: WithInterval | None


def site_floors(site: SingleSite) -> dict[str, Pipeline]:
    """Fit the floors of a site's own task to its samples, as the site does at the end of a run."""
    if not isinstance(site.task, FLOORED):
        return {}  # before all samples are tokenised
    train, validation = (own_samples(site, split) for split in ("train", "validation"))
    asked = train, site.anchors, site.job.anchors.concepts, site.task
    fit = with_labelled_anchors(*asked) if site.job.training.anchor_labels else train
    return fitted_floors(site.task, fit, validation, labelled_anchors(*asked))


def frozen_site(site: SingleSite, samples: Sequence[Sample], floors: Mapping[str, Pipeline]) -> FrozenSite:
    """Read a site's frozen tokens, and ask the logistic regression of its own task where that has classes.

    Args:
        samples: of its test split.
        floors: of :func:`site_floors`.
    """
    test = frozen(site.channel(0).tokens_of([s.content for s in samples]))
    probabilities: dict[str, np.ndarray] = {}
    if isinstance(site.task, Classification):
        model = floors["frozen_lr"]
        columns = model.predict_proba(test).T if len(test) else np.empty((len(model.classes_), 0))
        probabilities = {site.task.classes[c]: column for c, column in zip(model.classes_, columns, strict=True)}
    concepts, groups = [s.concept for s in samples], [s.group for s in samples]
    return FrozenSite(site, concepts, groups, test, frozen(site.anchors.tokens), probabilities)


def retrieval_floors(query: FrozenSite, gallery: FrozenSite) -> RetrievalFloors:
    """Measure both floors of retrieval from one site to another."""
    similarities = class_similarities(query, gallery), ridge_similarities(query, gallery)
    found = (None if s is None else _precision(s, query, gallery) for s in similarities)
    return RetrievalFloors(query.site.name, gallery.site.name, *found)


def class_similarities(query: FrozenSite, gallery: FrozenSite) -> np.ndarray | None:
    """Cosines between class probabilities over the classes of both sites' tasks, (N, M); None under 2 of them."""
    common = sorted(query.probabilities.keys() & gallery.probabilities.keys())
    if len(common) < 2:
        return None
    return _cosines(*(np.stack([side.probabilities[c] for c in common], axis=1) for side in (query, gallery)))


def ridge_similarities(query: FrozenSite, gallery: FrozenSite) -> np.ndarray | None:
    """Cosines in the gallery's token space, (N, M), of queries that a map of anchors takes there.

    The map is a ridge regression over the slots of both, from standardised tokens to standardised tokens, of the
    strength that leaving one anchor out prefers. None under 3 slots.
    """
    slots = common_slots(query.site, gallery.site)
    if len(slots) < _LEAST or not len(query.test) or not len(gallery.test):
        return None
    ours, theirs = (side.anchors[[side.site.anchors.slots.index(s) for s in slots]] for side in (query, gallery))
    target = StandardScaler().fit(theirs)
    ridge = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS)).fit(ours, target.transform(theirs))
    return _cosines(np.asarray(ridge.predict(query.test)), np.asarray(target.transform(gallery.test)))


def own_anchors(query: FrozenSite, teacher: str, concept: str, known: Collection[str]) -> TransferFloors:
    """Name the test samples of a concept by the site's own anchors.

    Args:
        known: the concepts among which the teacher names; those that the site has anchors of can be answers here.
    """
    concepts = [query.site.job.anchors.concepts[slot] for slot in query.site.anchors.slots]
    rows = [i for i, c in enumerate(concepts) if c in known]
    answers, accuracy = [concepts[i] for i in rows], None
    if concept in answers and len(set(answers)) > 1:
        model = nearest_mean(query.anchors[rows], np.array(answers))
        asked = [i for i, c in enumerate(query.concepts) if c == concept]
        right = [name == concept for name in model.predict(query.test[asked])]
        accuracy = share(right, [query.groups[i] for i in asked])
    return TransferFloors(query.site.name, teacher, concept, accuracy)


def _cosines(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return cross_similarity(torch.from_numpy(queries), torch.from_numpy(gallery)).numpy()


def _precision(similarity: np.ndarray, query: FrozenSite, gallery: FrozenSite) -> WithInterval | None:
    """P@1 of the queries whose concept is in the gallery; None where there are none."""
    right = right_at_1(torch.from_numpy(similarity), query.concepts, gallery.concepts)
    return share([*right.values()], [query.groups[i] for i in right]) if right else None
