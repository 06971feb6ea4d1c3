"""The hidden scene of the synthetic federation, and how each modality sees it.

A sample is z = 0.8 μ_c + 0.7 ν_cs + 0.5 ε in R^8: concept c, one of three kinds s within it, finer than any label,
and a place of its own. Modality m sees W₂ tanh(W₁ z), W₁ and W₂ random, frozen and its own, plus noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from research.evidence.federations.latent import COLUMNS, LENGTH, WIDTH

CONCEPTS = ("fern", "heath", "moss", "oak", "pine", "rye")
DIMENSIONS, _KINDS_WITHIN, _HIDDEN = 8, 3, 64
_CENTRES, _WITHIN, _OWN, _NOISE = 0.8, 0.7, 0.5, 0.5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """The made world of one seed: concepts, and the views of each modality.

    Attributes:
        seed: of all.
        shared: whether every modality looks at the same scene; else each has concepts at places of its own.
        turned: modalities whose tokens are turned by a random orthogonal matrix.
        concepts: their names; the places of the first ones do not depend on how many follow.
    """

    seed: int
    shared: bool = True
    turned: tuple[str, ...] = ()
    concepts: tuple[str, ...] = CONCEPTS

    def latents(self, kind: str, part: str, concepts: Sequence[str]) -> Array:
        """The latents z of new samples of these concepts, (N, 8)."""
        scene = self._generator("scene" if self.shared else f"scene {kind}")
        centres = scene.standard_normal((len(self.concepts), DIMENSIONS))
        within = scene.standard_normal((len(self.concepts), _KINDS_WITHIN, DIMENSIONS))
        draw = self._generator(f"samples {kind} {part}")
        number = np.array([self.concepts.index(c) for c in concepts])
        finer = draw.integers(_KINDS_WITHIN, size=len(concepts))
        own = draw.standard_normal((len(concepts), DIMENSIONS))
        return _CENTRES * centres[number] + _WITHIN * within[number, finer] + _OWN * own

    def finer(self, kind: str, part: str, count: int) -> NDArray[np.int64]:
        """The kind within its concept of each of these samples, (count,), below 3."""
        return self._generator(f"samples {kind} {part}").integers(_KINDS_WITHIN, size=count)

    def seen(self, kind: str, part: str, latents: Array) -> Array:
        """The view that a modality has of latents, (N, LENGTH · WIDTH)."""
        view = self._generator(f"view {kind}")
        first = view.standard_normal((DIMENSIONS, _HIDDEN)) / DIMENSIONS**0.5
        second = view.standard_normal((_HIDDEN, LENGTH * WIDTH)) / _HIDDEN**0.5
        noise = self._generator(f"noise {kind} {part}").standard_normal((len(latents), LENGTH * WIDTH))
        tokens = np.tanh(latents @ first) @ second + _NOISE * noise
        if kind in self.turned:
            turn, _ = np.linalg.qr(self._generator(f"turn {kind}").standard_normal((WIDTH, WIDTH)))
            tokens = (tokens.reshape(-1, LENGTH, WIDTH) @ turn).reshape(tokens.shape)
        return tokens

    def _generator(self, what: str) -> np.random.Generator:
        return np.random.default_rng(int.from_bytes(sha256(f"{self.seed}|{what}".encode()).digest()[:7], "big"))


def cells(row: Array) -> dict[str, str]:
    """A row of tokens as the cells of a table."""
    return dict(zip(COLUMNS, (f"{value:.5f}" for value in row), strict=True))
