"""Text in few tokens, so that a run is fast on one CPU core: the encoder's averaged into 16 or 8 pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from fedgram.modalities import text
from fedgram.modalities.base import Tokenizer
from fedgram.records import Sample, Tokens

LENGTH, SHORT = 16, 8


class Pieces:
    """Consecutive tokens of each content averaged into at most ``length`` pieces of equal length.

    A content of no more tokens than that stays as it is.
    """

    def __init__(self, inner: Tokenizer, length: int = LENGTH):
        self._inner, self._length = inner, length
        self.width = inner.width
        self.identity = f"pieces:1:{length}:{inner.identity}"

    def __call__(self, contents: Sequence[str]) -> Tokens:
        tokens, length = self._inner(contents), self._length
        count = tokens.mask.sum(1)
        order = torch.arange(tokens.mask.shape[1])[None, :].expand(tokens.mask.shape)  # padding is at the end
        piece = torch.where(count[:, None] > length, order * length // count[:, None], order)
        belongs = torch.nn.functional.one_hot(piece.clamp(max=length - 1), length) * tokens.mask[..., None]
        sizes = belongs.sum(1)
        sums = torch.einsum("nlp,nld->npd", belongs.float(), tokens.values)
        return Tokens(sums / sizes.clamp(min=1)[..., None], sizes > 0)


def tokenizer(name: str, fit_on: Sequence[Sample], length: int = LENGTH) -> Tokenizer:
    """The encoder of that name, in fewer tokens: any that fedgram takes for text."""
    return Pieces(text.tokenizer(name, fit_on), length)


MODALITY = replace(text.MODALITY, tokenizer=tokenizer)
BRIEFER = replace(text.MODALITY, tokenizer=partial(tokenizer, length=SHORT))
TEXT = "research.evidence.federations.brief:MODALITY"  # as a site file calls it
WORDS = "research.evidence.federations.brief:BRIEFER"
