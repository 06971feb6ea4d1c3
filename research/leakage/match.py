"""One step of one sample, or of eight: which of 120 candidates is in ΔB?

The server asks for what helps it most: one local step, no loss over anchors, anchors that are nobody's samples. Where
it knows the site's start it computes every candidate's own step and compares. Where it does not, it asks which
candidate's A x the row space of ΔB has, with a W of its own: one that it guesses, or one that it fits to the G of
round 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from fedgram.core.gram import cosine_gram
from fedgram.records import Tokens
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor
from torch.nn.functional import normalize

from research.leakage.gradients import sample_gradients, sketches, strangeness
from research.leakage.measures import Finding, averaged, auc, hits
from research.leakage.noise import rows_of
from research.leakage.sites import SITES, Setup, begin, flat, made, secret_of, some, stand_in, total

CANDIDATES, DRAWS = 120, 12
OTHERS = 2  # replies of each other site, three of which stand beside the victim's in a sum
KNOWS = ("start", "guess", "fitted")
_FIT_STEPS, _FIT_RATE = 120, 0.03


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view (``own``, ``sum``) and measure."""
    found: dict[tuple[str, str], Finding] = {}
    for size in (1, 8):
        training = (("rounds", 1), ("local_steps", 1), ("batch_size", size))
        setup = Setup(knows == "start", epsilon, CANDIDATES, training, seed)
        site = made(setup, folder)
        order = torch.randperm(len(site.data["train"]), generator=torch.Generator().manual_seed(seed))
        victims = [
            stand_in(site, rows, secret_of("victim", seed, k), f"site-{k}")
            for k, rows in enumerate(_dealt(order))
        ]
        state = begin(victims).state
        attacker = stand_in(site, order[:CANDIDATES], secret_of("attacker", seed), "site-0")
        if knows == "fitted":
            _fit(attacker, rounds.introduce(victims[0]).gram)
        others = [
            rounds.local_round(redrawn(victim, secret_of("draw", seed, k, again)), state)
            for again in range(OTHERS)
            for k, victim in enumerate(victims[1:])
        ]
        cases = {view: [] for view in ("own", "sum")}
        draw = 0
        while len(cases["own"]) < DRAWS:
            here = redrawn(victims[0], secret_of("draw", seed, draw))
            draw += 1
            rows = rows_of(here, state)
            if not len(rows):
                continue  # nobody was drawn: nothing to be found
            sent, beside = rounds.local_round(here, state), some(len(others), SITES - 1, (seed, draw))
            for view, seen in (("own", [sent]), ("sum", [sent, *(others[k] for k in beside)])):
                scores, labels = _scores(knows, attacker, total(seen))
                cases[view].append((scores, labels, rows))
        for view, tried in cases.items():
            found |= {(view, k): v for k, v in _findings(tried, attacker, size, knows).items()}
    return found


def redrawn(site: SingleSite, secret: str) -> SingleSite:
    """A site as it was opened, with batches of other draws."""
    rounds.reset(site)
    return replace(site, config=replace(site.config, secret=secret))


def _dealt(order: Tensor) -> list[Tensor]:
    """The samples of each site: the candidates at the first one, the rest among the others."""
    rest = order[CANDIDATES:]
    return [order[:CANDIDATES], *rest.chunk(SITES - 1)]


def _scores(knows: str, attacker: SingleSite, delta: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The scores of the candidates, high for those that took part, and the class that fits each best, (N,)."""
    data = attacker.data["train"]
    if knows != "start":
        found = sketches(attacker.model, data.tokens)
        strange = strangeness(delta, found, sorted(found))
        mask = data.tokens.mask[:, : strange.shape[1]]
        return -(strange * mask).sum(1) / mask.sum(1), torch.zeros(len(data), dtype=torch.long)
    observed = normalize(flat(delta), dim=0)
    by_class = [
        normalize(-_steps(attacker, torch.full((len(data),), label)), dim=1) @ observed
        for label in range(int(data.targets.max()) + 1)
    ]
    return torch.stack(by_class).max(0)  # pyright: ignore[reportReturnType]


def _steps(attacker: SingleSite, targets: Tensor) -> Tensor:
    """The signs of every candidate's gradient, as Adam's first step has them."""
    return sample_gradients(attacker.model, attacker.task, attacker.data["train"].tokens, targets).sign()


def _findings(
    tried: list[tuple[Tensor, Tensor, Tensor]], attacker: SingleSite, size: int, knows: str
) -> dict[str, Finding]:
    if size > 1:
        members = [torch.isin(torch.arange(CANDIDATES), rows) for _, _, rows in tried]
        found = [auc(scores, inside) for (scores, _, _), inside in zip(tried, members, strict=True)]
        return {"batch of 8: members": averaged(found, 0.5)}
    best = [(int(s.argmax()), labels, rows) for s, labels, rows in tried]
    right = [pick in rows.tolist() for pick, _, rows in best]
    chance = sum(len(rows) for _, _, rows in tried) / len(tried) / CANDIDATES
    found = {"batch of 1: sample": hits(sum(right), len(tried), chance)}
    if knows == "start":
        truth = attacker.data["train"].targets
        both = sum(ok and labels[pick] == truth[pick] for ok, (pick, labels, _) in zip(right, best, strict=True))
        classes = int(truth.max()) + 1
        found["batch of 1: sample and label"] = hits(int(both), len(tried), chance / classes)
    return found


def _fit(attacker: SingleSite, gram: Tensor) -> None:
    """Fit W so that the untrained model has the site's G over the public anchors."""
    parameters = [*attacker.model.adapters[0].parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_FIT_RATE * float(parameters[0].detach().std()))
    tokens: Tokens = attacker.anchors.tokens
    for _ in range(_FIT_STEPS):
        loss = (cosine_gram(attacker.model.represent(tokens)) - gram).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    attacker.model.zero_grad()
