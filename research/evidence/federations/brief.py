"""Text in few tokens, so that a run is fast on one CPU core: what the encoder gives is averaged into 16 pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from fedgram.modalities import text
from fedgram.modalities.base import Tokenizer
from fedgram.records import Sample, Tokens

LENGTH = 16


class Pieces:
    """Consecutive tokens of each content averaged into at most :data:`LENGTH` pieces of equal length.

    A content of no more tokens than that stays as it is.
    """

    def __init__(self, inner: Tokenizer):
        self._inner = inner
        self.width = inner.width
        self.identity = f"pieces:1:{LENGTH}:{inner.identity}"

    def __call__(self, contents: Sequence[str]) -> Tokens:
        tokens = self._inner(contents)
        count = tokens.mask.sum(1)
        order = torch.arange(tokens.mask.shape[1])[None, :].expand(tokens.mask.shape)  # padding is at the end
        piece = torch.where(count[:, None] > LENGTH, order * LENGTH // count[:, None], order)
        belongs = torch.nn.functional.one_hot(piece.clamp(max=LENGTH - 1), LENGTH) * tokens.mask[..., None]
        sizes = belongs.sum(1)
        sums = torch.einsum("nlp,nld->npd", belongs.float(), tokens.values)
        return Tokens(sums / sizes.clamp(min=1)[..., None], sizes > 0)


def tokenizer(name: str, fit_on: Sequence[Sample]) -> Tokenizer:
    """The encoder of that name, in fewer tokens: any that fedgram takes for text."""
    return Pieces(text.tokenizer(name, fit_on))


MODALITY = replace(text.MODALITY, tokenizer=tokenizer)
TEXT = "research.evidence.federations.brief:MODALITY"  # as a site file calls it
