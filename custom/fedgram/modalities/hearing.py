"""Recordings through any frozen audio encoder of transformers: AST, Wav2Vec2 and its kin, Whisper's encoder."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor
from transformers.utils.import_utils import is_torchaudio_available

from fedgram.core.logmel import in_pieces
from fedgram.data import clips
from fedgram.data.clips import Clip, open_clip
from fedgram.errors import DataError
from fedgram.modalities.hf import hash_weights, load_audio_encoder, load_for
from fedgram.modalities.sequence import spans
from fedgram.records import Tokens

log = logging.getLogger("fedgram.tokens")

_PIECES = 32  # L, besides a summary; what is longer is averaged, nothing is cut off
_SECONDS = 20.0  # seen at once by encoders that take any length; memory grows with the square


class AudioEncoder:
    """Last hidden states of an audio encoder, over waveforms as its checkpoint's feature extractor prepares them.

    A recording that is longer than the encoder's window is seen in windows that share a quarter with the next, and
    where they overlap their hidden states are averaged. Hidden states are averaged into L = 32 pieces of equal
    length, in the order of time; those of padding are left out. AST has patches of a spectrogram instead: they are
    averaged over the frequencies, and the mean of its two summary tokens (its own pooled output, Gong 2021) goes
    first.

    Args:
        name: hub id or folder. Of an encoder-decoder (Whisper) it is the encoder.

    Raises:
        DataError: the encoder cannot be loaded, or gives no hidden states of a waveform.
    """

    def __init__(self, name: str):
        self._where = f"tokenizer {name!r}"
        self._extractor = load_for(AutoFeatureExtractor, name)
        self._model = load_audio_encoder(name)
        config = self._model.config
        self._rate: int = self._extractor.sampling_rate
        self._rows = _rows_of_patches(config)
        self._padded = (
            self._padding()
        )  # samples of the window to which shorter ones are padded; 0 where they are not
        self._window = self._padded or int(_SECONDS * self._rate)
        self.width: int = config.hidden_size
        backend = "torchaudio" if is_torchaudio_available() else "numpy"  # two ways to AST's spectrogram
        settings = f"{_PIECES}:{self._window}:{backend}:{self._extractor.to_json_string()}"
        self.identity = f"hf-audio:1:{settings}:{hash_weights(self._model)}"

    def to(self, device: torch.device) -> None:
        """Compute on this device from now on."""
        self._model.to(device)

    def remarks(self, contents: Sequence[Clip]) -> list[str]:
        return clips.remarks(contents, self._rate, self._window / self._rate)

    def __call__(self, contents: Sequence[Clip]) -> Tokens:
        values, masks = zip(*(self._one(open_clip(clip, self._rate)) for clip in contents), strict=True)
        return Tokens(torch.stack(values), torch.stack(masks))

    @torch.no_grad()
    def _one(self, wave: Any) -> tuple[Tensor, Tensor]:
        """Tokens (L, d_m) of one waveform, and which of them there are.

        Windows go through the encoder one by one: padding them to one length would change what some encoders
        (Wav2Vec2's first norm runs over time) make of the shorter.
        """
        windows = [*spans(0, len(wave), self._window)]
        seen = [self._hidden(wave[start:stop]) for _, start, stop in windows]
        rate = len(seen[0][1]) / (windows[0][2] - windows[0][1])  # hidden states for each sample
        starts = [round(start * rate) for _, start, _ in windows]
        length = max(first + len(states) for first, (_, states) in zip(starts, seen, strict=True))
        sums, counts = torch.zeros(length, self.width), torch.zeros(length)
        for first, (_, states) in zip(starts, seen, strict=True):
            sums[first : first + len(states)] += states
            counts[first : first + len(states)] += 1
        values, mask = in_pieces(sums / counts.clamp(min=1)[:, None], (counts > 0).float(), _PIECES)
        if not self._rows:
            return values, mask
        summary = torch.stack([summary for summary, _ in seen]).mean(0)
        return torch.cat([summary, values]), torch.cat([torch.ones(1, dtype=torch.bool), mask])

    def _hidden(self, window: Any) -> tuple[Tensor, Tensor]:
        """The summary (1 or 0, d_m) of one window and its hidden states (T, d_m) in the order of time."""
        batch = self._extractor(window, sampling_rate=self._rate, return_tensors="pt")
        name = self._model.main_input_name
        if name not in batch:
            raise DataError(f"the encoder wants {name}", where=self._where, expected=", ".join(batch))
        inputs = batch[name].to(self._model.device, self._model.dtype)
        states: Tensor = self._model(**{name: inputs}).last_hidden_state[0].float().cpu()
        summary = states[:0]
        if self._rows:  # [CLS], distillation, then patches: all times of the lowest frequencies first
            summary, states = states[:2].mean(0, keepdim=True), states[2:]
            states = states.unflatten(0, (self._rows, -1)).mean(0)
        if self._padded:
            states = states[: max(1, math.ceil(len(states) * len(window) / self._padded))]
        return summary, states

    def _padding(self) -> int:
        if self._rows:  # the frames of AST stand 10 ms apart
            return self._extractor.max_length * self._rate // 100
        return getattr(self._extractor, "n_samples", 0)


def _rows_of_patches(config: Any) -> int:
    """The number of rows of patches over the frequencies, of AST; 0 for encoders whose states follow time."""
    if config.model_type != "audio-spectrogram-transformer":
        return 0
    return (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
