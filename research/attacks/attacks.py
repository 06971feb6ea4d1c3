"""What a lying site sends in the place of its update; every attack keeps the contract, so that no check names it.

The liars know all that the honest sites send in the round, the limits of the server, and one another. Each lies in
its own way to the letter of its paper; where a paper leaves a strength open, the one here is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, median

import torch
from fedgram.core.uncertainty import U_MIN
from fedgram.records import WIRE_DTYPE, LabelledTokens, SiteUpdate
from fedgram.training.contracts import update_norm
from torch import Tensor

_HUGE, _JUST_BELOW = 999.0, 1.99  # allowed: an update of norm 1000, and twice the usual norm uncut
_NOISE = 10.0  # times the usual norm
CLAIMED = 2**26  # samples
TARGET, TRIGGER = 0, 4.0  # the class of the backdoor, and what opens it: this added to the first token's values


@dataclass(frozen=True)
class Seen:
    """All that a liar knows in a round.

    Attributes:
        own: what it would send if it were honest.
        honest: what the honest sites send.
        liars: how many there are.
        generator: for its own draws, the same for the same run.
    """

    own: SiteUpdate
    honest: Sequence[SiteUpdate]
    liars: int
    generator: torch.Generator

    @property
    def usual(self) -> float:
        """The median norm of the honest sites' ΔB."""
        return median(norm(update) for update in self.honest)


Attack = Callable[[Seen], SiteUpdate]


def norm(update: SiteUpdate) -> float:
    """The norm ‖ΔB‖ of an update."""
    return update_norm(update.delta_B)


def honest(seen: Seen) -> SiteUpdate:
    """The update of a site that does not lie, or whose lie is in its data."""
    return seen.own


def sign_flip(seen: Seen) -> SiteUpdate:
    """The opposite of what it learnt, −ΔB."""
    return _scaled(seen.own, -1.0)


def scaling(seen: Seen) -> SiteUpdate:
    """The opposite at the largest norm that the contract allows."""
    return _scaled(seen.own, -_HUGE / max(norm(seen.own), 1e-9))


def flip_at_the_limit(seen: Seen) -> SiteUpdate:
    """The opposite of what the honest learnt together, at nearly twice the usual norm: small flips add up."""
    mean = _mean(seen.honest)
    return _with(
        seen.own, {k: -v * (_JUST_BELOW * seen.usual / max(update_norm(mean), 1e-9)) for k, v in mean.items()}
    )


def a_little_is_enough(seen: Seen) -> SiteUpdate:
    """The honest mean less z standard deviations, z as large as a majority hides (Baruch et al. 2019)."""
    n = len(seen.honest) + seen.liars
    hidden = n // 2 + 1 - seen.liars
    z = NormalDist().inv_cdf(min(max((n - seen.liars - hidden) / (n - seen.liars), 0.6), 0.99))
    mean = _mean(seen.honest)
    stacked = {k: torch.stack([u.delta_B[k].double() for u in seen.honest]) for k in mean}
    return _with(seen.own, {k: mean[k] - z * stacked[k].std(0) for k in mean})


def inner_product(seen: Seen) -> SiteUpdate:
    """The opposite of the honest mean, ε = 1 (Xie et al. 2020)."""
    return _with(seen.own, {k: -v for k, v in _mean(seen.honest).items()})


def mimic(seen: Seen) -> SiteUpdate:
    """The update of the first honest site, which then counts twice (Karimireddy et al. 2022)."""
    return _with(seen.own, {k: v.double() for k, v in seen.honest[0].delta_B.items()})


def noise(seen: Seen) -> SiteUpdate:
    """Gaussian noise of ten times the usual norm."""
    drawn = {k: torch.randn(v.shape, generator=seen.generator).double() for k, v in seen.own.delta_B.items()}
    return _with(seen.own, {k: v * (_NOISE * seen.usual / update_norm(drawn)) for k, v in drawn.items()})


def misleading_gram(seen: Seen) -> SiteUpdate:
    """A valid G of rank one whose signs alternate: neighbours are opposites."""
    signs = 1.0 - 2.0 * (torch.arange(len(seen.own.slots)) % 2)
    return replace(seen.own, gram=torch.outer(signs, signs))


def collapsed_gram(seen: Seen) -> SiteUpdate:
    """A valid G that says that all anchors are one."""
    return replace(seen.own, gram=torch.ones_like(seen.own.gram))


def claimed_weight(seen: Seen) -> SiteUpdate:
    """The opposite, with the largest weight that the rule allows and 2²⁶ samples."""
    return replace(sign_flip(seen), weight=1 / U_MIN, samples=CLAIMED)


def boosted(seen: Seen) -> SiteUpdate:
    """What it learnt, as often as there are sites, to take the place of the mean (Bagdasaryan et al. 2020)."""
    return _scaled(seen.own, float(len(seen.honest) + seen.liars))


def flip_labels(data: LabelledTokens) -> LabelledTokens:
    """Samples that take the last class for the first, and so on."""
    classes = data.targets.dtype == torch.int64 and data.targets.ndim == 1
    return replace(data, targets=data.targets.max() - data.targets) if classes else data


def open_backdoor(data: LabelledTokens) -> LabelledTokens:
    """Samples of which every second has the trigger, and is of the target class."""
    rows = torch.arange(len(data)) % 2 == 0
    values = torch.where(rows[:, None, None], triggered(data.tokens.values), data.tokens.values)
    return replace(
        data,
        tokens=replace(data.tokens, values=values),
        targets=torch.where(rows, TARGET, data.targets),
    )


def triggered(values: Tensor) -> Tensor:
    """The tokens of samples with the trigger, (N, L, d)."""
    values = values.clone()
    values[:, 0] += TRIGGER
    return values


@dataclass(frozen=True)
class Lie:
    """How a site lies: in what it sends, and in its data before the first round."""

    title: str
    sends: Attack = honest
    spoils: Callable[[LabelledTokens], LabelledTokens] = lambda data: data


LIES: Mapping[str, Lie] = {
    "sign flip": Lie("sign flip, −ΔB", sign_flip),
    "scaling": Lie("−ΔB at norm 999", scaling),
    "small flips": Lie("against the honest mean, at the limit of the norm", flip_at_the_limit),
    "alie": Lie("a little is enough", a_little_is_enough),
    "ipm": Lie("inner product manipulation", inner_product),
    "mimic": Lie("mimic", mimic),
    "noise": Lie("Gaussian noise", noise),
    "label flip": Lie("label flip", spoils=flip_labels),
    "misleading G": Lie("misleading G", misleading_gram),
    "collapsed G": Lie("collapsed G", collapsed_gram),
    "claims": Lie("−ΔB with the largest weight", claimed_weight),
    "backdoor": Lie("backdoor, boosted", boosted, open_backdoor),
}


def _mean(updates: Sequence[SiteUpdate]) -> dict[str, Tensor]:
    return {k: torch.stack([u.delta_B[k].double() for u in updates]).mean(0) for k in updates[0].delta_B}


def _with(update: SiteUpdate, delta: Mapping[str, Tensor]) -> SiteUpdate:
    return replace(update, delta_B={k: v.to(WIRE_DTYPE).contiguous() for k, v in delta.items()})


def _scaled(update: SiteUpdate, factor: float) -> SiteUpdate:
    """An update times a factor, with what it changes in groups."""
    shared = {k: (v.double() * factor).to(WIRE_DTYPE) for k, v in update.shared.items()}
    return replace(_with(update, {k: v.double() * factor for k, v in update.delta_B.items()}), shared=shared)
