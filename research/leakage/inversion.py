"""Words that are in a text site's ΔB, over the demo's own base: two layers of MiniLM.

From a list of texts, the site's among them, the attacker takes those whose own step is most like ΔB, and names
their words. Without a list it names tokens, those whose A x the row space of ΔB has, by the check of DAGER (Petrov
et al. 2024) for updates of which Adam has left signs. The tokens are those of all texts, or of other texts alone,
where the same words stand in other sentences. As many words are named as the batch has.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from fedgram.sites.single import SingleSite
from torch import Tensor

from research.leakage.gradients import sketches, strangeness
from research.leakage.match import TRAINING, Case, by_steps, cases
from research.leakage.measures import Finding, compared
from research.leakage.sites import SITES, Setup, begin, in_batches, secret_of, some, stand_in, texts

AT_SITE, LISTED, DRAWS = 24, 48, 12  # texts of each site, in the list; cases
KNOWS = ("start", "guess")
_SIZES, _GUESSES = (1, 4), 20  # batches; draws of random texts or words, for chance
_FIRST = ("query", "key", "value")  # layers whose input depends on one token alone


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view and measure: F1 of the named words against those of the batch."""
    site, order = scene(knows, epsilon, seed, folder)
    closed = by_steps(stand_in(site, order[:LISTED], secret_of("attacker", seed), "site-0"))
    gallery = Gallery(stand_in(site, order, secret_of("attacker", seed), "site-0"))
    found = {}
    for size in _SIZES:
        tried = steps(in_batches(site, size), order, seed)
        for view in ("own", "sum"):
            listed = [gallery.listed(closed(case.seen[view])[0], case) for case in tried]
            found[view, f"batch of {size}: words of listed texts"] = compared(listed)
            for name, tokens in (("all", gallery.there), ("other", gallery.away)):
                spanned = [gallery.spanned(case.seen[view], tokens, case) for case in tried]
                found[view, f"batch of {size}: words, tokens of {name} texts"] = compared(spanned)
    return found


def scene(knows: str, epsilon: float, seed: int, folder: Path) -> tuple[SingleSite, Tensor]:
    """A text site, and an order of its texts: the first :data:`AT_SITE` are those of the site that is attacked."""
    site = texts(Setup(knows == "start", epsilon, TRAINING, seed), folder)
    return site, torch.randperm(len(site.data["train"]), generator=torch.Generator().manual_seed(seed))


def steps(site: SingleSite, order: Tensor, seed: int) -> list[Case]:
    """Steps of the site that is attacked, beside three others with texts of their own."""
    parts = order[: SITES * AT_SITE].chunk(SITES)
    victims = [stand_in(site, p, secret_of("victim", seed, k), f"site-{k}") for k, p in enumerate(parts)]
    return [*cases(victims, begin(victims).state, seed, DRAWS)]


class Gallery:
    """The words of all texts, and their tokens as the attacker's own pipeline takes them in.

    Args:
        attacker: with every text, the first :data:`AT_SITE` of which are the victim's.

    Attributes:
        there: which tokens there are, (N, L) bool.
        away: which of them are of others' texts.
    """

    def __init__(self, attacker: SingleSite):
        data: Any = attacker.data["train"]
        found = sketches(attacker.model, data.tokens)
        self._layers = [name for name in sorted(found) if "layer.0." in name and name.endswith(_FIRST)]
        self._found = {name: found[name] for name in self._layers}
        self.there = data.tokens.mask[:, : found[self._layers[0]].shape[1]]
        self.away = self.there & (torch.arange(len(data)) >= AT_SITE)[:, None]
        self._words = _words(attacker, self.there.shape[1])

    def listed(self, scores: Tensor, case: Case) -> tuple[float, float]:
        """F1 of the words of the texts with the highest scores, and of as many random texts of the list."""
        draws = [some(len(scores), len(case.rows), ("text", case.number, k)) for k in range(_GUESSES)]
        best = scores.topk(len(case.rows)).indices.tolist()
        truth = self.bag(case.rows.tolist())
        return f1(self.bag(best), truth), sum(f1(self.bag(draw), truth) for draw in draws) / _GUESSES

    def spanned(self, delta: Any, tokens: Tensor, case: Case) -> tuple[float, float]:
        """F1 of the tokens that are in ΔB most, and of as many random ones.

        Args:
            tokens: that may be named, (N, L).
        """
        order = strangeness(delta, self._found, self._layers)[tokens].argsort()
        return self.scored(order[: self.bag(case.rows.tolist()).total()], tokens, case)

    def scored(self, named: Tensor, tokens: Tensor, case: Case) -> tuple[float, float]:
        """F1 of the words of some tokens, and of as many random ones.

        Args:
            named: numbers among the tokens that may be named.
            tokens: these, (N, L).
        """
        truth, words = self.bag(case.rows.tolist()), self._words[tokens]
        draws = [some(len(words), len(named), ("word", case.number, k)) for k in range(_GUESSES)]
        blind = sum(f1(Counter(words[draw].tolist()), truth) for draw in draws) / _GUESSES
        return f1(Counter(words[named].tolist()), truth), blind

    def bag(self, rows: list[int]) -> Counter[int]:
        """The words of some texts, each as often as it is there."""
        return Counter(self._words[rows][self.there[rows]].tolist())


def f1(named: Counter[int], truth: Counter[int]) -> float:
    """F1 of a bag of words against another: 2 |common| / (|named| + |truth|)."""
    return 2 * (named & truth).total() / (named.total() + truth.total())


def _words(attacker: SingleSite, length: int) -> Tensor:
    """The vocabulary's number of each token, (N, L); -1 where there is none."""
    tokenizer: Any = attacker.channel(0).tokenizer
    ids = tokenizer.screen([sample.content for sample in attacker.samples("train")])
    return torch.stack(
        [torch.tensor((ids[int(i)] + [-1] * length)[:length]) for i in attacker.data["train"].groups]
    )
