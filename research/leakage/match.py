"""One step of one sample, or of eight, among 120 candidates: who is in ΔB?

The server asks for what helps it most: one local step, no loss over anchors, no anchors among the samples. Where
it knows the site's start it computes every candidate's own step and compares. Where it does not, it asks which
candidate's A x the row space of ΔB has, with a W of its own: one that it guesses, or one fitted to the first G.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from fedgram.core.gram import cosine_gram
from fedgram.records import GlobalState
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor
from torch.nn.functional import normalize

from research.leakage.gradients import sample_gradients, sketches, strangeness
from research.leakage.measures import Finding, auc, averaged, hits
from research.leakage.noise import reply, rows_of
from research.leakage.sites import SITES, Setup, begin, flat, in_batches, made, secret_of, some, stand_in, total

CANDIDATES, DRAWS, MOST = 120, 24, 120
OTHERS = 2  # replies of each other site, three of which stand beside the victim's in a sum
KNOWS = ("start", "guess", "fitted")
TRAINING = (("rounds", 1), ("local_steps", 1), ("batch_size", 1))
_FIT_STEPS, _FIT_RATE = 120, 0.03

Compare = Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]  # ΔB: a score of each sample, and its best class


@dataclass(frozen=True)
class Case:
    """A step that was attacked.

    Attributes:
        number: of the draw.
        rows: of the samples in the batch, at the site.
        seen: what the server saw of it by view.
    """

    number: int
    rows: Tensor
    seen: Mapping[str, Mapping[str, Tensor]]


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view (``own``, ``sum``) and measure."""
    site = made(Setup(knows == "start", epsilon, TRAINING, seed), folder)
    order = torch.randperm(len(site.data["train"]), generator=torch.Generator().manual_seed(seed))
    parts = [order[:CANDIDATES], *order[CANDIDATES:].chunk(SITES - 1)]
    found: dict[tuple[str, str], Finding] = {}
    compare: Compare | None = None
    for size in (1, 8):
        here = in_batches(site, size)
        victims = [stand_in(here, p, secret_of("victim", seed, k), f"site-{k}") for k, p in enumerate(parts)]
        state = begin(victims).state
        attacker = stand_in(here, parts[0], secret_of("attacker", seed), "site-0")
        if compare is None:
            if knows == "fitted":
                _fit(attacker, rounds.introduce(victims[0]).gram)
            compare = by_steps(attacker) if knows == "start" else by_spans(attacker)
        tried = [*cases(victims, state, seed)]
        for view in ("own", "sum"):
            judged = [(*compare(case.seen[view]), case.rows) for case in tried]
            found |= {(view, k): v for k, v in _findings(judged, attacker, size, knows).items()}
    return found


def cases(victims: Sequence[SingleSite], state: GlobalState, seed: int, draws: int = DRAWS) -> Iterator[Case]:
    """Steps of the first site, as its draws give them, alone and in a sum with three other sites' steps.

    Draws of which nobody was taken are passed over, :data:`MOST` of them at most.
    """
    others = [
        reply(_redrawn(victim, secret_of("draw", seed, k, again)), state)
        for again in range(OTHERS)
        for k, victim in enumerate(victims[1:], 1)
    ]
    count = 0
    for number in range(MOST):
        here = _redrawn(victims[0], secret_of("draw", seed, number))
        if count < draws and len(rows := rows_of(here, state)):
            count += 1
            sent, beside = reply(here, state), some(len(others), SITES - 1, (seed, number))
            seen = {"own": total([sent]), "sum": total([sent, *(others[k] for k in beside)])}
            yield Case(number, rows, seen)


def by_steps(attacker: SingleSite) -> Compare:
    """Compare with the first step that each sample would make with each class, from the attacker's own start.

    There B = 0, and what Adam makes of the gradient are its signs.
    """
    data = attacker.data["train"]
    steps = []
    for label in range(int(data.targets.max()) + 1):
        gradients = sample_gradients(attacker.model, attacker.task, data.tokens, torch.full((len(data),), label))
        steps.append(normalize(-gradients.sign(), dim=1))

    def compare(delta: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        observed = normalize(flat(delta), dim=0)
        best = torch.stack([own @ observed for own in steps]).max(0)
        return best.values, best.indices

    return compare


def by_spans(attacker: SingleSite) -> Compare:
    """Compare the row space of ΔB with A x of each sample in every layer, which no class enters."""
    data = attacker.data["train"]
    found = sketches(attacker.model, data.tokens)
    mask = data.tokens.mask[:, : next(iter(found.values())).shape[1]]

    def compare(delta: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        strange = strangeness(delta, found, sorted(found)) * mask
        return -strange.sum(1) / mask.sum(1), torch.zeros(len(data), dtype=torch.long)

    return compare


def _redrawn(site: SingleSite, secret: str) -> SingleSite:
    """A site as it was opened, with batches of other draws."""
    rounds.reset(site)
    return replace(site, config=replace(site.config, secret=secret))


def _findings(
    tried: Sequence[tuple[Tensor, Tensor, Tensor]], attacker: SingleSite, size: int, knows: str
) -> dict[str, Finding]:
    if size > 1:
        inside = [torch.isin(torch.arange(CANDIDATES), rows) for _, _, rows in tried]
        curves = [auc(scores, members) for (scores, _, _), members in zip(tried, inside, strict=True)]
        return {"batch of 8: members, AUC": averaged(curves, 0.5)}
    best = [(int(scores.argmax()), labels, rows) for scores, labels, rows in tried]
    right = [pick in rows.tolist() for pick, _, rows in best]
    chance = sum(len(rows) for _, _, rows in tried) / len(tried) / CANDIDATES
    found = {"batch of 1: the sample": hits(sum(right), len(tried), chance)}
    if knows == "start":
        truth = attacker.data["train"].targets
        both = sum(ok and bool(labels[k] == truth[k]) for ok, (k, labels, _) in zip(right, best, strict=True))
        found["batch of 1: sample and label"] = hits(both, len(tried), chance / (int(truth.max()) + 1))
    return found


def _fit(attacker: SingleSite, gram: Tensor) -> None:
    """Fit W so that the untrained model has the site's G over the public anchors."""
    parameters = [*attacker.model.adapters[0].parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_FIT_RATE * float(parameters[0].detach().std()))
    for _ in range(_FIT_STEPS):
        loss = (cosine_gram(attacker.model.represent(attacker.anchors.tokens)) - gram).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    attacker.model.zero_grad()
