"""The server's look at a masked sum: no site's values can be seen, but what holds of each holds of their mean."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.errors import UpdateRejected
from fedgram.records import GlobalState, below
from fedgram.training.averages import B, M
from fedgram.training.contracts import check_magnitudes, largest_weight, update_norm

_ROUNDING = 1e-3  # of sums in fixed point, and of cosines


def check_means(
    where: str,
    weight: float,
    sites: int,
    tensors: Mapping[str, Tensor],
    before: GlobalState,
    base: Mapping[str, Tensor],
    job: JobConfig,
) -> None:
    """Raise UpdateRejected unless the weighted means of ΔB and m are ones that honest sites can have.

    Every bound on one site's values is convex, so their mean keeps it; a sum that does not holds a lie.

    Args:
        weight: Σ p_k.
        sites: how many were summed.
        tensors: Σ p_k x_k / Σ p_k, by label.
        before: what the sites started from.
        base: m of the base, by layer.
    """
    most = sites * largest_weight(job)
    if not sites * (1 - _ROUNDING) <= weight <= most * (1 + _ROUNDING):
        _reject(where, f"weights of {weight:.6g} in all", f"{sites} … {most:.6g}, of {sites} sites")
    norm, largest = update_norm(below(B, tensors)), job.aggregation.max_update_norm
    if not norm <= largest * (1 + _ROUNDING):
        _reject(where, f"a mean update of norm {norm:.3g}", f"at most {largest:.3g}, as of every site")
    m = {name: before.m[name].double() + change for name, change in below(M, tensors).items()}
    try:
        check_magnitudes(where, m, base)
    except UpdateRejected as error:
        _reject(where, error.problem, error.expected)


def check_consensus(where: str, consensus: Tensor) -> None:
    """Raise UpdateRejected unless the known entries of Ḡ are means of cosines."""
    largest = consensus.abs().nan_to_num(nan=0.0).max().item()
    if largest > 1 + _ROUNDING:
        _reject(where, f"a mean Gram with an entry of size {largest:.3g}", "means of cosines")


def _reject(where: str, problem: str, expected: object) -> None:
    raise UpdateRejected(
        f"the masked sum holds {problem}: one of its sites lies, and nobody can see which",
        where=where,
        expected=expected,
        remedy="look for that site without masks, on public data",
    )
