"""Questions across modalities to look at: test samples of one site, and what they find at another."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from PIL import Image

from fedgram.data.pixels import Picture, open_image
from fedgram.results import crossmodal
from fedgram.results.crossmodal import Embedded
from fedgram.results.showing import words

_EXAMPLES, _ANSWERS = 4, 3
_SIDE, _LETTERS = 112, 160


@dataclass(frozen=True)
class Card:
    """A sample to look at.

    Attributes:
        concept: its own.
        picture: an address that holds it; none where the sample is in words.
        words: of it.
        right: whether it has the concept that was asked for; None of a question.
    """

    concept: str
    picture: str | None
    words: str
    right: bool | None = None


@dataclass(frozen=True)
class Asking:
    """Test samples of a site, each with its nearest ones at another."""

    query: str
    gallery: str
    rows: list[tuple[Card, list[Card]]]


def questions(tested: Sequence[Embedded]) -> list[Asking]:
    """Ask with the first test samples of every concept, not the best ones, between first sites of modalities."""
    first: dict[str, Embedded] = {}
    for part in tested:
        if part.samples:
            first.setdefault(part.site.modality.name, part)
    return [question(query, gallery) for query, gallery in permutations(first.values(), 2)]


def question(query: Embedded, gallery: Embedded) -> Asking:
    """Ask one site's samples of another."""
    chosen = query[first_of_each([s.concept for s in query.samples], _EXAMPLES)]
    contents = {s.id: s.content for s in gallery.samples}
    rows = []
    for sample, matches in zip(chosen.samples, crossmodal.nearest(chosen, gallery, _ANSWERS), strict=True):
        answers = [_shown(contents[m.id], m.concept, right=m.concept == sample.concept != "") for m in matches]
        rows.append((_shown(sample.content, sample.concept), answers))
    return Asking(query.site.name, gallery.site.name, rows)


def first_of_each(concepts: Sequence[str], most: int) -> list[int]:
    """Rows of the first samples of every concept, as many of each, at most so many in all."""
    each = max(1, most // len(set(concepts)))
    rows = [i for c in sorted(set(concepts)) for i in [j for j, x in enumerate(concepts) if x == c][:each]]
    return rows[:most]


def _shown(content: Any, concept: str, right: bool | None = None) -> Card:
    if isinstance(content, Picture):
        return Card(concept, _thumbnail(content), content.path.name, right)
    return Card(concept, None, words(content, _LETTERS), right)


def _thumbnail(picture: Picture) -> str:
    image = open_image(picture)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
