"""Logistic regression on the mean of frozen tokens, at every site: whether a modality carries the signal."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from fedgram.config.job import JobConfig
from fedgram.model.site_model import masked_mean
from fedgram.records import Tokens
from fedgram.sites.samples import concepts_of
from fedgram.sites.single import open_single
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from research.evidence.federations import Federation


@dataclass(frozen=True)
class Probe:
    """The size of a site, and a linear probe's accuracy on it.

    Attributes:
        site: its name.
        train, validation, test: samples of the concepts that it trains on.
        unseen: test samples of concepts that it does not train on.
        concepts: number that it trains on.
        tokens: L.
        anchors, heldout: slots that its modality fills.
        accuracy: of the probe on the test samples.
        majority: share of the most frequent concept among them.
        named: accuracy on the training anchors of the concepts it trains on.
        seconds: to open the site, tokens from the cache.
    """

    site: str
    train: int
    validation: int
    test: int
    unseen: int
    concepts: int
    tokens: int
    anchors: int
    heldout: int
    accuracy: float
    majority: float
    named: float
    seconds: float


def probe(federation: Federation, name: str) -> Probe:
    """The probe of a site, which is opened twice, in the way of a run."""
    job = JobConfig(anchors=federation.anchors, heldout=federation.heldout, backbone=federation.backbone)
    open_single(name, federation.sites[name], job)
    start = time.perf_counter()
    site = open_single(name, federation.sites[name], job)
    seconds = time.perf_counter() - start
    data = {part: _pooled(labelled.tokens) for part, labelled in site.data.items()}
    labels = {part: labelled.targets.numpy() for part, labelled in site.data.items()}
    scale = StandardScaler().fit(data["train"])
    model = LogisticRegression(max_iter=2000, C=0.1).fit(scale.transform(data["train"]), labels["train"])
    classes = [c for c in concepts_of(site.samples("train")) if c in (site.config.concepts or (c,))]
    slots = [federation.anchors.concepts[i] for i in site.anchors.slots]
    known = [i for i, concept in enumerate(slots) if concept in classes]
    guesses = model.predict(scale.transform(_pooled(site.anchors.tokens)[known]))
    right = [classes[int(guess)] == slots[i] for guess, i in zip(guesses, known, strict=True)]
    tests = labels["test"].tolist()
    return Probe(
        site=name,
        train=len(labels["train"]),
        validation=len(labels["validation"]),
        test=len(tests),
        unseen=len(site.samples("test")) - len(tests),
        concepts=len(classes),
        tokens=site.data["train"].tokens.mask.shape[1],
        anchors=len(site.anchors.slots),
        heldout=len(site.heldout.slots) if site.heldout else 0,
        accuracy=float(model.score(scale.transform(data["test"]), labels["test"])),
        majority=max(Counter(tests).values()) / len(tests),
        named=float(np.mean(right)) if right else float("nan"),
        seconds=seconds,
    )


def _pooled(tokens: Tokens) -> NDArray[np.float32]:
    return masked_mean(tokens.values, tokens.mask).numpy() if len(tokens) else np.zeros((0, 1), np.float32)
