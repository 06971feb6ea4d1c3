"""Members of a site's training data, told by the likelihood ratio of shadow sites (LiRA, Carlini et al. 2022).

Shadows are sites that train on another random half of the same samples and answer what the server sent in a real
run. For every sample the score has one normal distribution among the shadows that had it and one among those that
had not, with variances pooled over samples. Each shadow in turn is the site that is attacked, and the rest are
what the attacker has made; so there are as many trials as shadows.

From ΔB over the rounds the score is, round by round, the cosine of ΔB with the sample's own gradient at the B that
the server sent. From the released adapter it is the sample's loss among the class means of the public anchors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.model import lora
from fedgram.model.tasks.labels import Classification
from fedgram.records import GlobalState, SiteUpdate
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from research.leakage.gradients import sample_gradients
from research.leakage.measures import Finding, auc, found_at
from research.leakage.sites import SITES, Setup, federate, flat, made, replay, secret_of, some, stand_in, total

KNOWS = ("start", "guess")
SHADOWS, POOL, OTHERS = 32, 80, 2
RATE = 0.01  # of false alarms
TRAINING = (("rounds", 4), ("local_steps", 4), ("batch_size", 20))
_TEMPERATURE, _SHUFFLED = 0.1, 40


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view and measure."""
    site = made(Setup(knows == "start", epsilon, TRAINING, seed), folder)
    order = torch.randperm(len(site.data["train"]), generator=torch.Generator().manual_seed(seed))
    pools = order[: SITES * POOL].chunk(SITES)
    members = halves(SHADOWS, len(pools[0]), seed)

    def one(pool: Tensor, inside: Tensor, *what: object) -> SingleSite:
        return stand_in(site, pool[inside], secret_of(seed, *what), f"site-{what[0]}")

    half = halves(2, len(pools[1]), seed)
    federation = [one(pool, half[0][: len(pool)], k, "real") for k, pool in enumerate(pools)]
    states = federate(federation)[0]
    shadows = [replay(one(pools[0], inside, 0, "shadow", k), states[:-1]) for k, inside in enumerate(members)]
    beside = [
        replay(one(pool, half[again][: len(pool)], k + 1, "beside", again), states[:-1])
        for again in range(OTHERS)
        for k, pool in enumerate(pools[1:])
    ]
    picks = [some(len(beside), SITES - 1, (seed, k)) for k in range(len(shadows))]
    sums = [[shadow, *(beside[j] for j in pick)] for shadow, pick in zip(shadows, picks, strict=True)]
    attacker = one(pools[0], torch.ones(len(pools[0]), dtype=torch.bool), 0, "attacker")
    own = over_rounds(attacker, states[:-1], [[shadow] for shadow in shadows])
    together = over_rounds(attacker, states[:-1], sums)
    released = torch.stack([_losses(attacker, states[-1], sent) for sent in sums])[..., None]
    found = {}
    for view, what, seen in (("own", "ΔB", own), ("sum", "ΔB", together), ("sum", "released adapter", released)):
        found |= {(view, f"{what}: {k}"): v for k, v in _findings(seen, members, seed).items()}
    return found


def halves(sites: int, samples: int, seed: int) -> Tensor:
    """Deal to every site half of the samples, and each of them to half of the sites: (sites, samples) bool."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(sites, samples, dtype=torch.bool)
    for pair in range(0, sites, 2):
        found[pair] = torch.randperm(samples, generator=generator) < samples // 2
        found[pair + 1] = ~found[pair]
    return found


def over_rounds(attacker: SingleSite, states: list[GlobalState], seen: list[list[list[SiteUpdate]]]) -> Tensor:
    """The cosine of each sample's gradient with what was seen in each round: (sites, samples, rounds).

    Args:
        seen: of each attacked site, the replies of those whose sum is seen, round by round.
    """
    data, rows = attacker.data["train"], []
    rounds.reset(attacker)
    for number, state in enumerate(states):
        rounds.adopt(attacker, state)
        own = normalize(-sample_gradients(attacker.model, attacker.task, data.tokens, data.targets), dim=1)
        changes = [normalize(flat(total([replies[number] for replies in sent])), dim=0) for sent in seen]
        rows.append(torch.stack(changes) @ own.T)
    return torch.stack(rows, dim=-1)


def likelihood_ratios(scores: Tensor, members: Tensor) -> Tensor:
    """The log likelihood ratio of "had it" against "had it not": (S, N, R), (S, N) bool → (S, N).

    Each site is judged by the other ones alone, the R scores of a sample as if they were independent.
    """
    x, inside = scores.double(), members.double()[..., None]
    others = (1 - torch.eye(len(x), dtype=torch.float64))[:, :, None, None]  # of each site, who judges it
    weights = torch.stack([inside, 1 - inside])[:, None] * others  # (2, S, S, N, 1)
    means = (weights * x).sum(2) / weights.sum(2)  # (2, S, N, R)
    away = weights * (x - means[:, :, None]).square()
    spread = away.sum((0, 2, 3)) / weights.sum((0, 2, 3)) + 1e-30  # (S, R)
    return (((x - means[1]).square() - (x - means[0]).square()) / (2 * spread[:, None])).sum(-1)


@torch.no_grad()
def _losses(attacker: SingleSite, last: GlobalState, sent: list[list[SiteUpdate]]) -> Tensor:
    """The negative losses of the samples under the adapter that these replies would have released: (N,)."""
    model, data, anchors = attacker.model, attacker.data["train"], attacker.anchors
    first, *rest = [total([replies[number] for replies in sent]) for number in range(len(sent[0]))]
    lora.set_B(model.transformer, {k: sum((m[k] for m in rest), first[k]).float() / len(sent) for k in last.B})
    z, places = normalize(model.embed(data.tokens), dim=1), normalize(model.embed(anchors.tokens), dim=1)
    concepts = [attacker.job.anchors.concepts[slot] for slot in anchors.slots]
    names = attacker.task.classes if isinstance(attacker.task, Classification) else ()
    classes = [torch.tensor([c == name for c in concepts]) for name in names]
    means = normalize(torch.stack([places[rows].mean(0) for rows in classes]), dim=1)
    return -cross_entropy(z @ means.T / _TEMPERATURE, data.targets, reduction="none")


def _findings(scores: Tensor, members: Tensor, seed: int) -> dict[str, Finding]:
    """AUC over the sites and hits at few false alarms; chance is the same with the memberships dealt anew."""
    found, generator = _curves(scores, members), torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(members), generator=generator) for _ in range(_SHUFFLED)]
    blind = torch.tensor([_curves(scores, members[order]) for order in orders])
    names = ("AUC", f"TPR at {RATE:.0%} FPR")
    return {
        name: Finding(value, blind[:, k].mean().item(), blind[:, k].std().item(), len(members))
        for k, (name, value) in enumerate(zip(names, found, strict=True))
    }


def _curves(scores: Tensor, members: Tensor) -> tuple[float, float]:
    ratios = likelihood_ratios(scores, members)
    curves = [auc(own, inside) for own, inside in zip(ratios, members, strict=True)]
    caught = found_at(ratios.flatten(), members.flatten(), RATE)
    return sum(curves) / len(curves), caught.double().mean().item()
