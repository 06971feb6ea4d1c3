"""CKA from textbook HSIC estimators, with explicit centring matrices and traces (float64)."""

from __future__ import annotations

import torch
from torch import Tensor


def hsic_paper(k: Tensor, l: Tensor) -> float:  # noqa: E741  K and L are the notation of HSIC
    """⟨K, L⟩_F, entry by entry."""
    n = len(k)
    return sum(float(k[i, j]) * float(l[i, j]) for i in range(n) for j in range(n))


def hsic_biased(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """tr(K H L H) / (n − 1)², Gretton et al. 2005."""
    n = len(k)
    h = torch.eye(n, dtype=torch.float64) - torch.ones(n, n, dtype=torch.float64) / n
    return float(torch.trace(k @ h @ l @ h)) / (n - 1) ** 2


def hsic_unbiased(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """Song et al. 2012, eq. (5), with K̃ = K − diag(K):

    1/(n(n−3)) · [tr(K̃L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((n−1)(n−2)) − 2/(n−2) · 1ᵀK̃L̃1].
    """
    n = len(k)
    one = torch.ones(n, dtype=torch.float64)
    k, l = k.clone().fill_diagonal_(0.0), l.clone().fill_diagonal_(0.0)  # noqa: E741
    trace = float(torch.trace(k @ l))
    sums = float(one @ k @ one) * float(one @ l @ one) / ((n - 1) * (n - 2))
    cross = 2.0 / (n - 2) * float(one @ k @ l @ one)
    return (trace + sums - cross) / (n * (n - 3))


HSIC = {"paper": hsic_paper, "centered": hsic_biased, "debiased": hsic_unbiased}


def cka(x: Tensor, y: Tensor, variant: str) -> float:
    hsic, x, y = HSIC[variant], x.double(), y.double()
    return hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
