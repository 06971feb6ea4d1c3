"""Questions about pictures and pictures with captions, from which a unified model learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one picture, as in VQA v2.

    Attributes:
        id: unique within the site.
        image: the picture's file.
        text: of the question.
        answers: of the people who were asked (ten in VQA v2), as they gave them.
        answer: what is learnt: the most frequent of them.
        kind: answer type (``yes/no``, ``number``, ``other``), or whatever the data name.
        concept: what the picture shows, where the data name it; ``""`` else.
        split: ``train``, ``validation`` or ``test`` where the data say so themselves.
    """

    id: str
    image: Path
    text: str
    answers: tuple[str, ...]
    answer: str
    kind: str
    concept: str = ""
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One picture with the words it is to be made from.

    Attributes:
        id: unique within the site.
        image: the picture's file.
        text: the prompt.
        concept: what the picture shows, where the data name it; ``""`` else.
        split: as in :class:`Question`.
    """

    id: str
    image: Path
    text: str
    concept: str = ""
    split: str = ""
