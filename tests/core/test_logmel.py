"""The log-mel spectrogram against the definition of each of its steps."""

from __future__ import annotations

import math

import numpy as np
import torch
from fedgram.core.logmel import in_pieces, log_mel, mel_filters
from transformers.audio_utils import mel_filter_bank


def test_filters_are_those_of_htk():
    expected = mel_filter_bank(33, 10, 0.0, 4000.0, 8000, norm=None, mel_scale="htk").T
    np.testing.assert_allclose(mel_filters(10, 33, 8000), expected, atol=1e-5)


def test_a_frame_is_the_power_of_a_windowed_discrete_transform():
    size, hop, bins = 16, 5, 9
    wave = torch.randn(64, generator=torch.Generator().manual_seed(0))
    filters = mel_filters(4, bins, 8000)
    around = np.pad(wave.double().numpy(), size // 2, mode="reflect")
    rows = []
    for start in range(0, 64 + 1, hop):
        window = [0.5 - 0.5 * math.cos(2 * math.pi * n / size) for n in range(size)]
        frame = [around[start + n] * window[n] for n in range(size)]
        power = [
            abs(sum(x * np.exp(-2j * math.pi * k * n / size) for n, x in enumerate(frame))) ** 2
            for k in range(bins)
        ]
        rows.append([math.log10(sum(f * p for f, p in zip(row, power, strict=True))) for row in filters.tolist()])
    loudest = max(map(max, rows))
    expected = [[max(x - loudest, -8) / 4 + 1 for x in row] for row in rows]
    torch.testing.assert_close(log_mel(wave, filters, hop), torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_gain_does_not_count_and_faint_bands_are_as_faint():
    wave = torch.sin(torch.arange(800) * 0.3)
    filters = mel_filters(8, 65, 8000)
    found = log_mel(wave, filters, 80)
    torch.testing.assert_close(log_mel(wave / 50, filters, 80), found, atol=1e-3, rtol=0)
    assert found.max() == 1
    assert found.min() >= -1


def test_pieces_by_hand():
    states = torch.tensor([[1.0], [2.0], [3.0], [6.0], [9.0]])
    mean, present = in_pieces(states, torch.ones(5), 2)  # 0 0 0 1 1
    assert mean.tolist() == [[2.0], [7.5]]
    assert present.tolist() == [True, True]
    mean, present = in_pieces(states[:2], torch.tensor([1.0, 0.0]), 3)
    assert mean.tolist() == [[1.0], [0.0], [0.0]]
    assert present.tolist() == [True, False, False]
