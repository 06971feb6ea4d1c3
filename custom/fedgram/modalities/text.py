"""Text: a CSV or JSONL file with the columns id, text, concept and group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedgram import pretrained
from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.modalities.hf import SequenceEncoder
from fedgram.modalities.tables import read_samples
from fedgram.types import Sample

MAX_LENGTH = 24  # word pieces; the median gloss of the demo has 18


class TextModality:
    """Content: the text, a string."""

    name = "text"

    def read(self, path: Path) -> list[Sample]:
        table = read_samples(path, ["text"])
        rows = zip(table["id"], table["concept"], table["group"], table["text"], strict=True)
        return [Sample(*row) for row in rows]

    def read_anchor(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"not readable ({type(error).__name__})", where=path, expected="UTF-8 text") from None
        if not text:
            raise DataError("empty", where=path, expected="the text of one anchor")
        return text

    def tokenizer(self, name: str, fit_on: Sequence[str]) -> Tokenizer:
        """``minilm``, or any encoder or language model by hub id or folder: its last hidden states."""
        return SequenceEncoder(pretrained.locate(name), MAX_LENGTH)

    def fingerprint(self, content: str) -> bytes:
        return content.encode()


MODALITY = TextModality()
