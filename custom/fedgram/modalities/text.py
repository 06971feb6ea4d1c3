"""Text: a frozen encoder or language model over the texts of :mod:`fedgram.data.texts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedgram import pretrained
from fedgram.data import unlabelled
from fedgram.data.texts import parse_text, read_text, read_texts
from fedgram.modalities.base import FileModality, Tokenizer
from fedgram.modalities.sequence import SequenceEncoder
from fedgram.records import Sample


def tokenizer(name: str, fit_on: Sequence[Sample], statistics: Mapping[str, Any] | None = None) -> Tokenizer:
    """Open ``minilm``, or any encoder or language model by hub id or folder."""
    return SequenceEncoder(pretrained.locate(name), [sample.content for sample in fit_on], statistics=statistics)


# A content is a string.
MODALITY = FileModality("text", read_texts, read_text, tokenizer, str.encode, unlabelled.texts, parse_text)
