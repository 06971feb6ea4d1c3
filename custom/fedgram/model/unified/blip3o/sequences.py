"""The input of BLIP3o's tower: Qwen2.5-VL's chat format, its positions, and batches of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_USER = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"

BEFORE_PICTURE = f"{_USER}<|vision_start|>"
PICTURE_STARTS = "[IMG]"  # BLIP3o's own token, before the query tokens
END = "<|im_end|>"


def after_picture(question: str) -> str:
    """The text from the end of the picture to where the answer begins."""
    return f"<|vision_end|>{question}{_ASSISTANT}"


def picture_prompt(prompt: str) -> str:
    """The text by which BLIP3o is asked for a picture, up to the token after which it begins."""
    return f"{_USER}Please generate image based on the following caption: {prompt}{_ASSISTANT}"


@dataclass(frozen=True)
class Piece:
    """A stretch of one sequence.

    Attributes:
        embeds: (L, d).
        positions: of time, row and column, (3, L), counted from the piece's beginning.
        length: by how much positions have grown after it.
    """

    embeds: Tensor
    positions: Tensor
    length: int


def text_piece(embeds: Tensor) -> Piece:
    """A piece of words or query tokens, in which the three positions grow together."""
    length = len(embeds)
    return Piece(embeds, torch.arange(length, device=embeds.device).expand(3, -1), length)


def picture_piece(embeds: Tensor) -> Piece:
    """A piece of a square picture's tokens in reading order: one time, rows, columns (Qwen2-VL, section 2.1)."""
    side = isqrt(len(embeds))
    places = torch.arange(side, device=embeds.device)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    positions = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1)
    return Piece(embeds, positions, side)


@dataclass(frozen=True)
class PaddedPieces:
    """Sequences padded at their end.

    Attributes:
        embeds: (N, L, d).
        mask: (N, L), int64, 0 where padded.
        positions: (3, N, L), int64.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of tokens of each sequence, (N,)."""
        return self.mask.sum(1)


def join(sequences: Sequence[Sequence[Piece]]) -> PaddedPieces:
    """Join the pieces of each list into one sequence; positions go on from one piece to the next."""
    embeds = [torch.cat([piece.embeds for piece in pieces]) for pieces in sequences]
    positions = [_positions(pieces).T for pieces in sequences]
    lengths = torch.tensor([len(rows) for rows in embeds], device=embeds[0].device)
    mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
    return PaddedPieces(
        pad_sequence(embeds, batch_first=True),
        mask.long(),
        pad_sequence(positions, batch_first=True).permute(2, 0, 1).contiguous(),
    )


def _positions(pieces: Sequence[Piece]) -> Tensor:
    found, start = [], 0
    for piece in pieces:
        found.append(piece.positions + start)
        start += piece.length
    return torch.cat(found, dim=1)
