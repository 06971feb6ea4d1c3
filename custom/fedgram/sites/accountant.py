"""Noise against (ε, δ): privacy loss distributions of the Poisson-sampled Gaussian, by ``dp-accounting``.

Koskela et al. 2020; Doroshenko et al. 2022, whose discretisation errs to the safe side whatever its interval.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fedgram.errors import ConfigError

_INTERVAL = 1e-3  # of the loss: a tenth of the time of 1e-4, and the same ε to four digits
_PRECISION = 1e-3  # of the noise, relative; always to the larger side
_LEAST, _MOST = 2.0**-4, 2.0**14  # noise that is looked at


@cache
def spent_epsilon(multiplier: float, delta: float, rate: float, steps: int) -> float:
    """The ε at δ of so many steps of the Gaussian mechanism on Poisson samples, for a group added or removed.

    Args:
        multiplier: σ, the noise over the clipping length.
        rate: q.

    Raises:
        ConfigError: ``dp-accounting`` is not installed.
    """
    dp = _package()
    accountant = dp.pld.PLDAccountant(
        dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=_INTERVAL
    )
    if rate == 1.0:  # no sampling: n steps are one with noise σ / √n (Dong et al. 2022, corollary 3.3)
        accountant.compose(dp.GaussianDpEvent(multiplier / steps**0.5))
    else:
        accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier)), steps)
    return float(accountant.get_epsilon(delta))


@cache
def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least σ, to a thousandth, with which so many steps keep to (ε, δ).

    Raises:
        ConfigError: ``dp-accounting`` is not installed, or there is no such noise within reason.
    """

    def keeps(multiplier: float) -> bool:
        return spent_epsilon(multiplier, delta, rate, steps) <= epsilon

    high = 1.0
    while high <= _MOST and not keeps(high):
        high *= 2
    if high > _MOST:
        raise ConfigError(
            f"({epsilon:g}, {delta:g}) over {steps} steps needs noise above {_MOST:g} times the clipping length",
            where="privacy",
            expected="a larger epsilon, or a job of fewer rounds and steps",
        )
    low = high / 2
    while low > _LEAST and keeps(low):
        high, low = low, low / 2
    while high / low > 1 + _PRECISION:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _package() -> Any:
    """Import the accountant where somebody asks for differential privacy: it takes seconds."""
    try:
        import dp_accounting
        import dp_accounting.pld
    except ImportError as error:
        raise ConfigError(
            "the package dp-accounting is not installed",
            where="privacy",
            remedy="pip install 'fedgram[privacy]'",
        ) from error
    return dp_accounting
