"""Audio: a plain log-mel spectrogram or a frozen encoder over the recordings of :mod:`fedgram.data.clips`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedgram.core.logmel import in_pieces, log_mel, mel_filters
from fedgram.data import clips, unlabelled
from fedgram.data.clips import Clip, open_clip, read_clip, read_clips
from fedgram.modalities.base import FileModality, Tokenizer
from fedgram.records import Sample, Tokens


class LogMel:
    """Mean and deviation of 64 mel bands in 16 equal pieces of a recording; nothing here is learned.

    The spectrogram is that of :func:`fedgram.core.logmel.log_mel` at 16 kHz, in windows of 25 ms every 10 ms.
    """

    def __init__(self, bands: int = 64, pieces: int = 16, rate: int = 16_000):
        self._pieces, self._rate, self._hop = pieces, rate, rate // 100
        self._filters = mel_filters(bands, rate // 80 + 1, rate)
        self.width = 2 * bands
        self.identity = f"log-mel:1:{bands}:{pieces}:{rate}"

    def __call__(self, contents: Sequence[Clip]) -> Tokens:
        values, masks = zip(
            *(self._one(torch.from_numpy(open_clip(c, self._rate))) for c in contents), strict=True
        )
        return Tokens(torch.stack(values), torch.stack(masks))

    def _one(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = log_mel(wave, self._filters, self._hop)
        every = torch.ones(len(spectrum))
        mean, present = in_pieces(spectrum, every, self._pieces)
        square, _ = in_pieces(spectrum.square(), every, self._pieces)
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean, deviation], dim=1), present

    def remarks(self, contents: Sequence[Clip]) -> list[str]:
        return clips.remarks(contents, self._rate, None)


def tokenizer(name: str, fit_on: Sequence[Sample]) -> Tokenizer:
    """Open ``log-mel``, or an audio encoder by hub id or folder."""
    if name == "log-mel":
        return LogMel()
    from fedgram.modalities.hearing import AudioEncoder

    return AudioEncoder(name)


MODALITY = FileModality("audio", read_clips, read_clip, tokenizer, Clip.fingerprint, unlabelled.recordings)
