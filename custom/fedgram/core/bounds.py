"""Limits on how far one reply may go: each change is shortened, on arrival, to a multiple of what is usual.

What is usual is known before a round begins: the lower median of the sites' norms in each of the last rounds, and
of these the lower median. So a reply is bounded without waiting for the others, and in any order alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedgram.core.robust import lower_median

_ROUNDS = 5
Past = Mapping[str, Sequence[float]]  # by part: the lower median over sites in each of the last rounds


def limit(past: Past, part: str, multiple: float, first: float = math.inf) -> float:
    """The largest size of a part of a reply: ``multiple`` times the usual one, ``first`` while there is none.

    Args:
        multiple: c; 0 sets no limit.
    """
    if not multiple:
        return math.inf
    return multiple * lower_median(past[part]) if past.get(part) else first


def shortened(norm: float, limit: float) -> float:
    """The factor min(1, limit / norm) by which a change of that norm is multiplied."""
    return 1.0 if norm <= limit else limit / norm


def extended(past: Past, sizes: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """The past with one more round: of each part its sizes at the sites; those of size 0 say nothing."""
    after = {part: tuple(values) for part, values in past.items()}
    for part, found in sorted(sizes.items()):
        if there := [size for size in found if size > 0]:
            after[part] = (*after.get(part, ()), lower_median(there))[-_ROUNDS:]
    return after


def gram_distance(gram: Tensor, consensus: Tensor, slots: Sequence[int]) -> float:
    """The root mean square of G − Ḡ over the pairs that have a consensus; 0 where none has.

    Args:
        gram: G, (b, b).
        consensus: Ḡ, (B, B), NaN where there is none.
        slots: the b slots.
    """
    away = _away(gram, consensus, slots)
    known = away[~away.isnan()]
    return known.square().mean().sqrt().item() if known.numel() else 0.0


def gram_towards(gram: Tensor, consensus: Tensor, slots: Sequence[int], factor: float) -> Tensor:
    """The Gram Ḡ + factor · (G − Ḡ), (b, b), float64; G itself where there is no consensus.

    Between two matrices of cosines: one too, where all pairs have a consensus.
    """
    away = _away(gram, consensus, slots)
    return gram.double() - torch.where(away.isnan(), 0.0, (1 - factor) * away)


def _away(gram: Tensor, consensus: Tensor, slots: Sequence[int]) -> Tensor:
    index = torch.tensor(slots, dtype=torch.long)
    return gram.double() - consensus.double()[index[:, None], index]
