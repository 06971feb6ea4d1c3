"""Tell an anchor whose content the server does not have: its row of G, read with a surrogate of growing quality.

At the end a site sends G over the anchors and the held-out anchors. The attacker takes the row of each held-out
anchor, and asks which of 24 contents has that row in a pipeline of its own: one that was never trained, or one
that answered what the server sent on 16, 64 or 256 samples of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.core.gram import cosine_gram
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor
from torch.nn.functional import normalize

from research.leakage.measures import Finding, hits
from research.leakage.sites import SITES, Setup, federate, made, replay, secret_of, stand_in

KNOWS = ("256 samples", "64 samples", "16 samples", "0 samples")
SAMPLES = 24  # of each site
TRAINING = (
    ("rounds", 4),
    ("local_steps", 4),
    ("batch_size", 8),
    ("geometry_weight", 1.0),
    ("concept_weight", 0.3),
)


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view and measure; behind masks no G over held-out anchors is sent, so there is no sum."""
    site = made(Setup(False, epsilon, TRAINING, seed), folder)
    order = torch.randperm(len(site.data["train"]), generator=torch.Generator().manual_seed(seed))
    parts, rest = order[: SITES * SAMPLES].chunk(SITES), order[SITES * SAMPLES :]
    sites = [stand_in(site, p, secret_of("site", seed, k), f"site-{k}") for k, p in enumerate(parts)]
    before = [_rows(one) for one in sites]
    states = federate(sites)[0]
    after = []
    for one in sites:
        rounds.adopt(one, states[-1])
        after.append(_rows(one))
    number = int(knows.split()[0])
    plain = made(Setup(False, 0.0, TRAINING, seed), folder)
    attacker = stand_in(plain, rest[: max(number, 1)], secret_of("attacker", seed))
    rounds.reset(attacker)
    if number:
        replay(attacker, states[:-1])
    rounds.adopt(attacker, states[-1])
    surrogate, found = _rows(attacker), {}
    for when, rows in (("", after), (", before any training", before)):
        found |= {("own", f"{k}{when}"): v for k, v in _findings(rows[0], surrogate, site).items()}
    return found


def _rows(site: SingleSite) -> Tensor:
    """The cosines of each held-out anchor to the anchors: (h, b)."""
    if site.heldout is None:
        raise ValueError("the job has no held-out anchors")
    anchors, heldout = site.model.embed(site.anchors.tokens), site.model.embed(site.heldout.tokens)
    return cosine_gram(torch.cat([anchors, heldout]))[len(anchors) :, : len(anchors)]


def _findings(seen: Tensor, surrogate: Tensor, site: SingleSite) -> dict[str, Finding]:
    """How often the content is found, and how often its concept."""
    slots, pin = site.heldout.slots if site.heldout else (), site.job.heldout
    concepts = [pin.concepts[slot] for slot in slots] if pin else []
    own, other = (normalize(x - x.mean(1, keepdim=True), dim=1) for x in (seen, surrogate))
    best = (own @ other.T).argmax(1).tolist()
    items = sum(i == j for i, j in enumerate(best))
    names = sum(concepts[i] == concepts[j] for i, j in enumerate(best))
    return {
        "content": hits(items, len(best), 1 / len(best)),
        "concept": hits(names, len(best), 1 / len(set(concepts))),
    }
