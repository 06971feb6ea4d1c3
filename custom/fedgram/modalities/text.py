"""Text: a frozen encoder or language model over the texts of :mod:`fedgram.data.texts`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedgram import pretrained
from fedgram.config.site import PLAIN, Reading
from fedgram.data.texts import read_text, read_texts
from fedgram.modalities.base import Tokenizer
from fedgram.modalities.sequence import SequenceEncoder
from fedgram.records import Sample


class TextModality:
    """Text, whose contents are strings."""

    name = "text"

    def read(self, path: Path, reading: Reading = PLAIN) -> list[Sample]:
        return read_texts(path, reading)

    def read_anchor(self, path: Path) -> str:
        return read_text(path)

    def tokenizer(self, name: str, fit_on: Sequence[Sample]) -> Tokenizer:
        """Open ``minilm``, or any encoder or language model by hub id or folder."""
        return SequenceEncoder(pretrained.locate(name), [sample.content for sample in fit_on])

    def fingerprint(self, content: str) -> bytes:
        return content.encode()


MODALITY = TextModality()
