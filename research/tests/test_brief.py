"""Texts in 16 pieces."""

from __future__ import annotations

import numpy as np
import torch
from fedgram.records import Tokens

from research.evidence.federations.brief import LENGTH, Pieces


class Counted:
    """A tokenizer whose contents say how many tokens they have; token i is (i, 1)."""

    width, identity, longest = 2, "counted", 40

    def __call__(self, contents):
        values = torch.stack([torch.arange(self.longest, dtype=torch.float32), torch.ones(self.longest)], dim=1)
        mask = torch.stack([torch.arange(self.longest) < int(c) for c in contents])
        return Tokens(values.expand(len(contents), -1, -1) * mask[..., None], mask)


def slow(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition, token by token."""
    pieces: list[list[int]] = [[] for _ in range(LENGTH)]
    for i in range(count):
        pieces[i * LENGTH // count if count > LENGTH else i].append(i)
    values = np.array([[np.mean(p), 1.0] if p else [0.0, 0.0] for p in pieces])
    return values, np.array([bool(p) for p in pieces])


def test_pieces_are_means_of_consecutive_tokens():
    counts = [1, 5, 15, 16, 17, 31, 32, 33, 40]
    tokens = Pieces(Counted())(list(map(str, counts)))
    assert tokens.values.shape == (len(counts), LENGTH, 2)
    for row, count in enumerate(counts):
        values, mask = slow(count)
        np.testing.assert_allclose(tokens.values[row], values, rtol=1e-6)
        np.testing.assert_array_equal(tokens.mask[row], mask)


def test_by_hand():
    """32 tokens in 16 pieces: 0 and 1 become 0.5, 2 and 3 become 2.5."""
    assert Pieces(Counted())(["32"]).values[0, :3, 0].tolist() == [0.5, 2.5, 4.5]


def test_its_identity_is_not_that_of_the_encoder():
    assert Pieces(Counted()).identity.endswith(":counted")
    assert Pieces(Counted()).identity != "counted"
