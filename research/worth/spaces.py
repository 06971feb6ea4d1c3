"""Spaces in which samples of two modalities are compared, and the questions that are asked there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import mean

import numpy as np
import torch
from fedgram.core.aggregate import GramConsensus
from fedgram.core.directory import Published, merge, prototypes
from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.records import Tokens
from fedgram.results.alignment import answerable, precision_at_1
from fedgram.results.crossfloors import class_similarities, frozen_site, site_floors
from fedgram.sites.single import SingleSite
from sklearn.linear_model import RidgeCV
from torch import Tensor

from research.evidence.federations import kind_of
from research.rows import Row

_PENALTIES = np.logspace(-3, 4, 15)  # of the ridge map, chosen by leaving one anchor out


@dataclass(frozen=True)
class Placed:
    """The samples of one site as some model represents them.

    Attributes:
        kind: the modality.
        z: (N, d) test samples.
        taught: (M, d) training samples.
        anchors: (b, d), in the order of ``slots``.
        slots: that the site covers.
        ids, concepts: of the test samples.
        labels: concepts of the training samples.
    """

    kind: str
    z: Tensor
    taught: Tensor
    anchors: Tensor
    slots: tuple[int, ...]
    ids: Sequence[str]
    concepts: Sequence[str]
    labels: Sequence[str]


Space = Mapping[str, Placed]  # by site
Readout = Callable[[Placed, Placed, Tensor], tuple[Tensor, Tensor]]  # of two sites: coordinates to compare


def place(sites: Mapping[str, SingleSite], of: Callable[[SingleSite, Tokens], Tensor]) -> Space:
    """Every site's test samples, training samples and anchors, represented by ``of``."""
    found = {}
    for name, site in sites.items():
        tested = site.samples("test")
        found[name] = Placed(
            kind=kind_of(name),
            z=of(site, site.channel(0).tokens_of([s.content for s in tested])),
            taught=of(site, site.data["train"].tokens),
            anchors=of(site, site.anchors.tokens),
            slots=site.anchors.slots,
            ids=[s.id for s in tested],
            concepts=[s.concept for s in tested],
            labels=site.data["train"].concepts,
        )
    return found


def by_model(site: SingleSite, tokens: Tokens) -> Tensor:
    """Represent tokens by the site's model as it is now."""
    return site.model.embed(tokens)


def consensus_of(space: Space, slots: int) -> Tensor:
    """Ḡ of the sites' Grams over the anchors, (slots, slots)."""
    consensus = GramConsensus(slots)
    for name, placed in space.items():
        consensus.add(name, cosine_gram(placed.anchors), placed.slots)
    return consensus.close()


def _relative(a: Placed, b: Placed, consensus: Tensor) -> tuple[Tensor, Tensor]:
    common = sorted(set(a.slots) & set(b.slots))
    first, second = (anchor_coordinates(p.z, p.anchors[[p.slots.index(s) for s in common]]) for p in (a, b))
    return first, second


def _framed(a: Placed, b: Placed, consensus: Tensor) -> tuple[Tensor, Tensor]:
    places = consensus_frame(consensus)
    return _in_frame(a, a.z, places), _in_frame(b, b.z, places)


def _in_frame(p: Placed, z: Tensor, places: Tensor) -> Tensor:
    return frame_coordinates(anchor_coordinates(z, p.anchors), cosine_gram(p.anchors), places[list(p.slots)])


def _ridge(a: Placed, b: Placed, consensus: Tensor) -> tuple[Tensor, Tensor]:
    """The first site's samples by a ridge map to the second's space, fitted on the anchors of both."""
    common = sorted(set(a.slots) & set(b.slots))
    x, y = (p.anchors[[p.slots.index(s) for s in common]].double().numpy() for p in (a, b))
    x_mean, y_mean = x.mean(0), y.mean(0)
    fitted = RidgeCV(_PENALTIES * float(np.square(x - x_mean).sum(1).mean())).fit(x - x_mean, y - y_mean)
    mapped = fitted.predict(a.z.double().numpy() - x_mean)
    return torch.from_numpy(mapped).float(), b.z - torch.from_numpy(y_mean).float()


READOUTS: Mapping[str, Readout] = {"anchors": _relative, "frame": _framed, "ridge": _ridge}


def retrieval(space: Space, consensus: Tensor, readout: str) -> Row:
    """The share of samples whose nearest neighbour at a site of another modality has their concept; the chance."""
    found, chances, asked = [], [], 0
    for a, b in permutations(space, 2):
        rows = answerable(space[a].concepts, space[b].concepts) if space[a].kind != space[b].kind else []
        if rows:
            similarity = cross_similarity(*READOUTS[readout](space[a], space[b], consensus))
            hits, chance = precision_at_1(similarity, space[a].concepts, space[b].concepts)
            found.append(hits)
            chances.append(chance)
            asked += len(rows)
    return {"r@1": mean(found), "r@1 chance": mean(chances), "r@1 n": asked} if found else {}


def by_classes(sites: Mapping[str, SingleSite]) -> Row:
    """R@1 of :func:`retrieval` without a space: by the probabilities of the classes that two sites share.

    They are of logistic regressions on frozen tokens, each with its site's labelled anchors.
    """
    sides = {name: frozen_site(site, site.samples("test"), site_floors(site)) for name, site in sites.items()}
    found = []
    for (first, a), (second, b) in permutations(sides.items(), 2):
        if kind_of(first) == kind_of(second) or not answerable(a.concepts, b.concepts):
            continue
        if (similarities := class_similarities(a, b)) is not None:
            found.append(precision_at_1(torch.from_numpy(similarities), a.concepts, b.concepts)[0])
    return {"frozen r@1 by classes": mean(found)} if found else {}


def naming(space: Space, slots: int, unseen: Mapping[str, Sequence[str]]) -> Row:
    """The share of samples of concepts without a label that a directory of all sites' concepts names rightly.

    Args:
        slots: B.
        unseen: concepts without a label at the sites of a modality, by modality.
    """
    directory = merge(
        {
            name: Published(
                modality=p.kind,
                prototypes=prototypes(anchor_coordinates(p.taught, p.anchors), p.labels, least=1),
                gram=cosine_gram(p.anchors),
                slots=p.slots,
            )
            for name, p in space.items()
        },
        slots,
    )
    right: list[float] = []
    chances: list[float] = []
    for p in space.values():
        rows = [i for i, concept in enumerate(p.concepts) if concept in unseen.get(p.kind, ())]
        if directory is None or not rows:
            continue
        known = directory.prototypes_for(p.kind)
        placed, concepts = _in_frame(p, p.z[rows], directory.places), [*known]
        answers = cross_similarity(placed, torch.stack([*known.values()])).argmax(1)
        right += [float(concepts[int(k)] == p.concepts[i]) for i, k in zip(rows, answers, strict=True)]
        chances += [1 / len(concepts)] * len(rows)
    return {"naming": mean(right), "naming chance": mean(chances), "naming n": len(right)} if right else {}


def things(
    space: Space, consensus: Tensor, readout: str, thing: Mapping[str, str], fine: Mapping[str, str]
) -> Row:
    """The share of samples that find their own thing at a site of another modality, or one of its fine class.

    Nothing where no site is of another modality.
    """
    exact: list[float] = []
    alike: list[float] = []
    chances: list[float] = []
    for a, b in permutations(space, 2):
        if space[a].kind == space[b].kind:
            continue
        shown, offered = [thing[i] for i in space[a].ids], [thing[i] for i in space[b].ids]
        rows = answerable(shown, offered)
        best = cross_similarity(*READOUTS[readout](space[a], space[b], consensus)).argmax(1).tolist()
        exact += [float(offered[best[i]] == shown[i]) for i in rows]
        alike += [float(fine[offered[best[i]]] == fine[shown[i]]) for i in rows]
        chances += [1 / len(offered)] * len(rows)
    if not exact:
        return {}
    return {"thing": mean(exact), "thing chance": mean(chances), "thing n": len(exact), "fine": mean(alike)}
