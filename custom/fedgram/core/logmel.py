"""The log-mel spectrogram of a waveform, and features in a fixed number of pieces of their time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_DECADES = 8.0  # of power, below the loudest band of a clip; what is fainter is as faint
_FAINTEST = 1e-10


def mel_filters(bands: int, bins: int, rate: int) -> Tensor:
    """Triangles (bands, bins) of height 1, equally wide on the mel scale from 0 to half the rate.

    mel(f) = 2595 log₁₀(1 + f / 700) (O'Shaughnessy 1987, as in HTK); bin k stands at k · rate / 2 / (bins − 1).
    """
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    mels = torch.linspace(0, highest, bands + 2, dtype=torch.float64)
    corners = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    rise = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0).float()


def log_mel(wave: Tensor, filters: Tensor, hop: int) -> Tensor:
    """Power in mel bands relative to the loudest of the clip, (1 + samples // hop, bands), from −1 to 1.

    1 + max(log₁₀ P − max log₁₀ P, −8) / 4 with P = M |STFT(x)|², so that the gain of a recording does not count. A
    frame is a Hann window of 2 (bins − 1) samples around every hop-th sample, reflected at the ends.

    Args:
        wave: (samples,), more than bins.
        filters: (bands, bins), as :func:`mel_filters` makes them.
        hop: samples from one frame to the next.
    """
    size = 2 * (filters.shape[1] - 1)
    window = torch.hann_window(size)
    spectrum = torch.stft(wave, size, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    log = (filters @ spectrum.abs().square()).clamp(min=_FAINTEST).log10()
    return ((log - log.max()).clamp(min=-_DECADES) / (_DECADES / 2) + 1).T


def in_pieces(states: Tensor, weights: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Weighted means (most, d) of equal pieces of a sequence (T, d), and which of them there are (most,), bool.

    State t belongs to piece ⌊t · most / T⌋ where there are more states than pieces, else to piece t.
    """
    length = len(states)
    pieces = torch.arange(length)
    if length > most:
        pieces = pieces * most // length
    sums = torch.zeros(most, states.shape[1]).index_add_(0, pieces, states * weights[:, None])
    counts = torch.zeros(most).index_add_(0, pieces, weights)
    return sums / counts.clamp(min=1e-9)[:, None], counts > 0
