"""The task of a class for every pixel: from a grid of tokens to a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedgram.model.tasks.metrics as metrics
from fedgram.core.mixture import mix_logs
from fedgram.data.pixels import open_mask
from fedgram.errors import ConfigError, DataError
from fedgram.modalities.base import MapTokenizer, Tokenizer
from fedgram.model.tasks.base import Prediction, require_classes, start_small
from fedgram.records import Sample

_FINE = 4  # every token predicts a piece of 4 × 4 of the mask: encoders have 7 to 16 patches a side
_MOST_CLASSES = 64


class PatchHead(nn.Module):
    """A linear map of every patch token to its piece of the mask, before pooling.

    The patches are the last tokens, row by row; encoders put a class token before them.

    Args:
        width: d.
        length: L, a square number or one more.
        classes: C.
        generator: of the initial weights.

    Raises:
        ConfigError: the tokens are no square grid.
    """

    def __init__(self, width: int, length: int, classes: int, generator: torch.Generator):
        super().__init__()
        self.side = isqrt(length)
        if length - self.side**2 > 1:
            raise ConfigError(
                f"{length} tokens an image",
                where="tokenizer",
                expected="a square grid of patches, with or without a class token",
                remedy="choose a vision encoder that makes one",
            )
        self.linear = nn.Linear(width, classes * _FINE**2)
        start_small(self.linear, generator)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Make logits (N, C, 4 g, 4 g) from hidden states and mask, (N, L, d) and (N, L)."""
        pieces = self.linear(hidden[:, -(self.side**2) :]).transpose(1, 2).unflatten(2, (self.side, self.side))
        return F.pixel_shuffle(pieces, _FINE)


@dataclass(frozen=True)
class Segmentation:
    """The task of a class for every pixel, as the encoder sees the image.

    Attributes:
        classes: C pixel values, ascending; the first is the background.
        weights: of each class in the loss; all the same when empty.
    """

    classes: tuple[int, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def fit(cls, train: Sequence[Sample], balanced: bool) -> Segmentation:
        counts = pixel_counts(train)
        require_classes(len(counts), 2)
        classes, total = tuple(counts), sum(counts.values())
        return cls(classes, tuple(total / (len(classes) * counts[c]) for c in classes) if balanced else ())

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        return PatchHead(width, length, len(self.classes), generator)

    def targets(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Tensor:
        """Encode masks as (N, H, W), uint8, class indices at the encoder's resolution.

        Raises:
            ConfigError: the encoder has no map of the image.
            DataError: a mask cannot be read, or has a class that no training mask has.
        """
        if not isinstance(tokenizer, MapTokenizer):
            raise ConfigError(
                "this encoder keeps no map of the image", where="task 'segmentation'", expected="a vision encoder"
            )
        masks = [torch.tensor(tokenizer.place(self._indices(s))) for s in samples]
        return torch.stack(masks) if masks else torch.zeros(0, 1, 1, dtype=torch.uint8)

    def _indices(self, sample: Sample) -> np.ndarray:
        pixels = open_mask(mask_of(sample))
        unknown = np.setdiff1d(pixels, self.classes)
        if unknown.size:
            raise DataError(
                f"class {unknown[0]} has no training mask",
                where=mask_of(sample),
                expected=", ".join(map(str, self.classes)),
            )
        return np.searchsorted(self.classes, pixels).astype(np.uint8)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every pixel."""
        weights = output.new_tensor(self.weights) if self.weights else None
        return F.cross_entropy(_enlarged(output, targets), targets.long(), weights)

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Dice and IoU over the pixels of all samples."""
        counts = confusions(output, targets, len(self.classes)).sum(0).numpy()
        return metrics.defined(metrics.overlaps(counts))

    def predictions(self, output: Tensor) -> list[Prediction]:
        """Masks of the size of the head's output, with the pixel values of the site's own masks."""
        values = np.array(self.classes, dtype=np.uint8)
        return [Prediction(values[indices]) for indices in output.argmax(1).cpu().numpy()]

    def mix(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the probabilities of every pixel: log Σ w softmax, (N, C, H, W)."""
        return mix_logs([output.log_softmax(1) for output in outputs], weights)


def confusions(output: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count the pixels of each sample by true class and named class, (N, C, C), float64.

    Args:
        output: (N, C, h, w), logits.
        targets: (N, H, W).
    """
    counts = torch.zeros(len(output), classes, classes, dtype=torch.float64)
    for row, (logits, truth) in enumerate(zip(output, targets, strict=True)):
        named = _enlarged(logits[None], truth[None]).argmax(1)[0].cpu().numpy()
        counts[row] = torch.from_numpy(metrics.confusion(truth.cpu().numpy(), named, classes))
    return counts


def _enlarged(output: Tensor, targets: Tensor) -> Tensor:
    return F.interpolate(output, size=targets.shape[1:], mode="bilinear")


def mask_of(sample: Sample) -> Path:
    """The mask of a sample; raises DataError for one that has none."""
    if not isinstance(sample.target, Path):
        raise DataError("no mask", where=sample.source, remedy="segmentation needs images, each with a mask")
    return sample.target


def pixel_counts(samples: Sequence[Sample]) -> dict[int, int]:
    """Count the pixels of each class over the masks of samples.

    Raises:
        DataError: so many classes that these are no masks.
    """
    total = np.zeros(256, dtype=np.int64)
    for sample in samples:
        total += np.bincount(open_mask(mask_of(sample)).ravel(), minlength=256)
        if np.count_nonzero(total) > _MOST_CLASSES:
            raise DataError(
                f"more than {_MOST_CLASSES} pixel values",
                where=mask_of(sample),
                expected="one value a class; this looks like a picture",
            )
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}
