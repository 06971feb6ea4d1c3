"""Sums in 64-bit fixed point (pre-rounded summation, Demmel & Nguyen 2013).

Every term is rounded once to a multiple of 2⁻³⁶ and integer addition is associative, so the result does not depend
on the order in which terms arrive, to the last bit, and memory does not grow with their number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedgram.errors import FedgramError

_FRACTION_BITS = 36
LARGEST_SUM = 2.0 ** (62 - _FRACTION_BITS)  # 6.7e7: beyond it the integers could overflow


def to_fixed(term: Tensor) -> Tensor:
    """The integers round(2³⁶ x) of a term, int64; it must be finite and below :data:`LARGEST_SUM`."""
    return torch.round(term.double() * 2.0**_FRACTION_BITS).to(torch.int64)


def from_fixed(total: Tensor) -> Tensor:
    """The value of a sum of such integers, float64."""
    return total.double() * 2.0**-_FRACTION_BITS


class FixedPointSum:
    """An order-independent sum Σ x_k of tensors of one shape, exact after one rounding per term."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = torch.Size(shape)
        self._total = torch.zeros(shape, dtype=torch.int64)
        self._bound = 0.0  # Σ max|x_k|, at least the size of any entry of the total

    def has_room_for(self, largest: float) -> bool:
        """Whether a term with entries up to ``largest`` fits; False for NaN and infinity."""
        return self._bound + largest <= LARGEST_SUM

    def add(self, term: Tensor) -> None:
        """Add one term, converted to float64.

        Raises:
            FedgramError: wrong shape, not finite, or so large that the sum could overflow.
        """
        largest = term.abs().max().item() if term.numel() else 0.0
        if term.shape != self.shape or not self.has_room_for(largest):
            raise FedgramError(
                f"term of shape {tuple(term.shape)} and size {largest:.3g}",
                expected=f"shape {tuple(self.shape)} and a finite sum below {LARGEST_SUM:.3g}",
            )
        self._bound += largest
        self._total += to_fixed(term)

    def value(self) -> Tensor:
        """The sum so far, float64."""
        return from_fixed(self._total)
