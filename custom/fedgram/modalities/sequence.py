"""Text and DNA through a frozen encoder or language model: windows in, a fixed number of tokens out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from fedgram.errors import DataError
from fedgram.modalities.hf import hash_weights, load_for, load_language_encoder
from fedgram.records import Tokens

MAX_TOKENS = 64  # L; what is longer is averaged into L pieces, nothing is cut off
_WINDOW = 1024  # tokens seen at once, where the encoder allows it; memory grows with the square
_FIRST_POSITION = 2  # RoBERTa and ESM leave out the first positions
_BATCH = 8192  # tokens in one pass
_UNKNOWN = 0.5  # a larger share of unknown tokens means the wrong tokenizer

Span = tuple[int, int, int]  # which content, and the tokens [start, stop) of it


def spans(content: int, length: int, window: int) -> Iterator[Span]:
    """Windows over one content: each shares a quarter with the next, and the last ends where the content ends."""
    if length <= window:
        yield content, 0, length
        return
    step = max(1, window * 3 // 4)
    for start in [*range(0, length - window, step), length - window]:
        yield content, start, start + window


class SequenceEncoder:
    """Last hidden states of an encoder or of a causal language model (after its final norm, without its head).

    Every token of the content gives one hidden state. Special tokens are there for the encoder to see, but are
    left out of the result: a [CLS] that nobody trained on, or the first token of a language model, which attention
    uses as a sink, would dominate the scale of all others. In a causal model a token knows what stands before it;
    the shared transformer sees all of them and pools.

    Where windows overlap, their hidden states are averaged. A content of more than L tokens is averaged into L
    pieces of equal length.

    Args:
        name: hub id or folder.
        fit_on: training contents. L is the number of tokens of the longest, at most :data:`MAX_TOKENS`.
        words: makes of a content what the tokenizer takes; DNA as k-mers, for example. The tokenizer's vocabulary
            tells which.
        statistics: of an earlier one, instead of contents.

    Raises:
        DataError: the encoder cannot be loaded, or the tokenizer does not know the contents' alphabet.
    """

    def __init__(
        self,
        name: str,
        fit_on: Sequence[str],
        words: Callable[[frozenset[str]], Callable[[str], str]] = lambda _: lambda content: content,
        statistics: Mapping[str, Any] | None = None,
    ):
        from transformers import AutoTokenizer

        self._where = f"tokenizer {name!r}"
        self._tokenizer = load_for(AutoTokenizer, name)
        vocabulary = self._tokenizer.get_vocab()
        self._words = words(frozenset(vocabulary))
        self._model = load_language_encoder(name)
        self._before, self._after = self._specials()
        self._window = self._room()
        self.width: int = self._model.config.hidden_size
        self._length: int = statistics["length"] if statistics else self._fit(fit_on)
        self.statistics = {"length": self._length}
        words_seen = sha256(repr(sorted(vocabulary.items())).encode()).hexdigest()
        settings = f"{self._length}:{self._window}:{self._words(_PROBE)}:{words_seen}"
        self.identity = f"hf-sequence:2:{settings}:{hash_weights(self._model)}"

    def to(self, device: torch.device) -> None:
        """Compute on this device from now on."""
        self._model.to(device)

    def screen(self, contents: Sequence[str]) -> list[list[int]]:
        """The tokenizer's own tokens of each content; refuses one without any."""
        ids = [self._ids(content) for content in contents]
        empty = [number for number, one in enumerate(ids, 1) if not one]
        if empty:
            raise DataError(
                f"content {empty[0]} of {len(ids)} has no token", where=self._where, remedy="remove it"
            )
        return ids

    @torch.no_grad()
    def __call__(self, contents: Sequence[str]) -> Tokens:
        ids = self.screen(contents)
        sums = torch.zeros(len(ids), self._length, self.width)
        counts = torch.zeros(len(ids), self._length)
        windows = [span for i, one in enumerate(ids) for span in spans(i, len(one), self._window)]
        coverage = [torch.zeros(len(one)) for one in ids]
        for i, start, stop in windows:
            coverage[i][start:stop] += 1
        batch = max(1, _BATCH // max(stop - start for _, start, stop in windows))
        for first in range(0, len(windows), batch):
            part = windows[first : first + batch]
            hidden = self._hidden([ids[i][start:stop] for i, start, stop in part])
            for (i, start, stop), states in zip(part, hidden, strict=True):
                pieces = torch.arange(start, stop)
                if len(ids[i]) > self._length:
                    pieces = pieces * self._length // len(ids[i])
                weights = 1 / coverage[i][start:stop]
                sums[i].index_add_(0, pieces, states[: stop - start] * weights[:, None])
                counts[i].index_add_(0, pieces, weights)
        return Tokens(sums / counts.clamp(min=1)[..., None], counts > 0)

    def _hidden(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states of the windows' own tokens, padded at the end: (n, longest, d_m), float32, on the CPU."""
        longest, pad = max(map(len, windows)), self._tokenizer.pad_token_id or 0
        width = len(self._before) + longest + len(self._after)
        tokens, mask = torch.full((len(windows), width), pad), torch.zeros(len(windows), width, dtype=torch.long)
        for row, window in enumerate(windows):
            ids = [*self._before, *window, *self._after]
            tokens[row, : len(ids)], mask[row, : len(ids)] = torch.tensor(ids), 1
        device = self._model.device
        states = self._model(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state
        return states[:, len(self._before) : len(self._before) + longest].float().cpu()

    def _ids(self, content: str) -> list[int]:
        return self._tokenizer(self._words(content), add_special_tokens=False, verbose=False)["input_ids"]

    def _specials(self) -> tuple[list[int], list[int]]:
        """The tokens that the tokenizer puts before and after a text."""
        plain, full = self._ids(_PROBE), self._tokenizer(self._words(_PROBE))["input_ids"]
        start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
        return full[:start], full[start + len(plain) :]

    def _room(self) -> int:
        """The number of tokens of a content that fit into one window."""
        positions = (getattr(self._model.config, "max_position_embeddings", None) or _WINDOW) - _FIRST_POSITION
        room = min(self._tokenizer.model_max_length, positions, _WINDOW) - len(self._before) - len(self._after)
        return max(1, room)

    def _fit(self, contents: Sequence[str]) -> int:
        """Choose L, after a look at how the tokenizer takes the contents."""
        ids = [self._ids(content) for content in contents]
        unknown = sum(one.count(self._tokenizer.unk_token_id) for one in ids)
        if unknown > _UNKNOWN * sum(map(len, ids)):
            raise DataError(
                f"{unknown} of {sum(map(len, ids))} tokens of the training data are unknown to it",
                where=self._where,
                expected="a tokenizer of the same kind of data",
                remedy="choose another encoder; for DNA, look at do_lower_case in its tokenizer_config.json",
            )
        return min(MAX_TOKENS, max(map(len, ids), default=MAX_TOKENS)) or 1


_PROBE = "ACGTTGCAACGT"  # a text and a DNA sequence
