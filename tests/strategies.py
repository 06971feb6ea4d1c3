"""Hypothesis strategies for the objects of the paper. B anchors, N samples, d width, K sites.

Sizes, kinds and seeds are drawn by Hypothesis, the entries by torch from the seed: examples shrink to a few
rows and a small seed, and a failure is reproduced from the printed arguments.
"""

from __future__ import annotations

import torch
from fedgram.core.gram import cosine_gram
from hypothesis import strategies as st
from torch import Tensor

seeds = st.integers(0, 2**16)
anchor_counts = st.integers(5, 12)
widths = st.integers(3, 24)
site_counts = st.integers(1, 12)
KINDS = ("gaussian", "shared mean", "low rank", "clustered", "scaled rows")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal entries, float64."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def orthogonal(seed: int, d: int) -> Tensor:
    return torch.linalg.qr(normal(seed, d, d)).Q


def representation(kind: str, seed: int, n: int, d: int) -> Tensor:
    """(n, d) in one of the shapes that transformers produce."""
    z = normal(seed, n, d)
    if kind == "shared mean":  # anisotropic: all cosines near 1
        return z + 5.0 * normal(seed + 1, 1, d)
    if kind == "low rank":
        return normal(seed, n, 2) @ normal(seed + 1, 2, d)
    if kind == "clustered":
        return normal(seed + 1, 3, d).repeat(n, 1)[:n] + 0.1 * z
    if kind == "scaled rows":
        return z * torch.logspace(-4, 4, n, dtype=torch.float64)[:, None]
    return z


@st.composite
def representations(draw: st.DrawFn, rows=anchor_counts, widths=widths) -> Tensor:
    return representation(draw(st.sampled_from(KINDS)), draw(seeds), draw(rows), draw(widths))


@st.composite
def cosine_grams(draw: st.DrawFn, rows=anchor_counts) -> Tensor:
    """PSD, unit diagonal."""
    return cosine_gram(draw(representations(rows)))


@st.composite
def gram_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Two Grams over the same anchors."""
    rows = st.just(draw(anchor_counts))
    return draw(cosine_grams(rows)), draw(cosine_grams(rows))


@st.composite
def weights(draw: st.DrawFn, sites=site_counts) -> dict[str, float]:
    """Positive weights by site; some equal, some far apart."""
    value = st.sampled_from([1.0, 2.0, 100.0]) | st.floats(1e-3, 1e6)
    return {f"site-{k:02d}": draw(value) for k in range(draw(sites))}


max_shares = st.sampled_from([0.1, 0.2, 0.25, 1 / 3, 0.5, 0.75, 1.0]) | st.floats(0.05, 1.0)

SHAPES = {"layers.0.q": (3, 2), "layers.0.v": (2, 4), "layers.1.scale": ()}


def update(seed: int) -> dict[str, Tensor]:
    """One site's named tensors, float32."""
    return {name: normal(seed + i, *shape).float() for i, (name, shape) in enumerate(SHAPES.items())}


@st.composite
def partial_grams(draw: st.DrawFn, slots: int = 6) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """By site, a Gram over the anchor slots that it covers; some sites cover few or none."""
    covered = st.sets(st.integers(0, slots - 1)).map(lambda some: tuple(sorted(some)))
    sites = {}
    for k in range(draw(st.integers(1, 6))):
        own = draw(covered)
        sites[f"site-{k}"] = (cosine_gram(normal(draw(seeds), len(own), 5)).float(), own)
    return sites
