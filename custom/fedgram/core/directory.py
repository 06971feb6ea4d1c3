"""A directory of concepts: where each lies in a frame of the public anchors, as sites that have samples of it say.

A site publishes the mean anchor coordinates of its concepts and its anchors' Gram, both of frozen tokens, which no
training has bent towards the site's own classes. The server builds the frame from these Grams and puts every
prototype in its place (:mod:`fedgram.core.frame`); nobody needs another site's representations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.robust import entry_median
from fedgram.errors import ConfigError

_PLACES = "places"  # name of a tensor; every other is <modality>/<concept>
LEAST_SAMPLES = 10  # of a concept: the mean of fewer says too much about each
_FARTHEST = 2.0  # ‖(u − μ) R‖ of unit vectors, at most: no honest site places a sample further out
MOST_CONCEPTS, LONGEST_NAME, LARGEST = 1000, 200, 2.0  # of what a site may publish; |cos − mean cos| ≤ 2


@dataclass(frozen=True, kw_only=True)
class Published:
    """The concepts of one site.

    Attributes:
        modality: of its samples.
        prototypes: mean anchor coordinates by concept, (b,) each.
        gram: (b, b) cosines between the anchors that it covers.
        slots: which these are, b of them.
    """

    modality: str
    prototypes: Mapping[str, Tensor]
    gram: Tensor
    slots: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Directory:
    """The places of anchors and of concepts in one frame.

    Attributes:
        places: of the anchors, (B, B), float32.
        prototypes: of concepts, (B,) float32 each, by modality and concept.
    """

    places: Tensor
    prototypes: Mapping[tuple[str, str], Tensor]

    def prototypes_for(self, modality: str) -> dict[str, Tensor]:
        """The prototypes by which samples of a modality are named, (B,) by concept, in the order of names.

        They are means over the other modalities: prototypes of its own lie nearer to a sample whatever it shows,
        and count only where no other modality has spoken.
        """
        others = [key for key in self.prototypes if key[0] != modality] or [*self.prototypes]
        found: dict[str, list[Tensor]] = defaultdict(list)
        for key in sorted(others):
            found[key[1]].append(self.prototypes[key])
        return {concept: torch.stack(found[concept]).mean(0) for concept in sorted(found)}


def is_name(text: str) -> bool:
    """Whether a concept may be published under this name: printable, neither empty nor too long."""
    return 1 <= len(text) <= LONGEST_NAME and text.isprintable()


def prototypes(coordinates: Tensor, concepts: Sequence[str], least: int = LEAST_SAMPLES) -> dict[str, Tensor]:
    """The mean coordinates of each concept that has enough samples and a name, in the order of names.

    Args:
        coordinates: (N, b).
        concepts: N of them.
        least: the fewest samples of a concept.

    Returns:
        (b,) by concept, float32, the first 1,000 of them.
    """
    named = {concept for concept, count in Counter(concepts).items() if count >= least and is_name(concept)}
    rows: dict[str, list[int]] = defaultdict(list)
    for row, concept in enumerate(concepts):
        rows[concept].append(row)
    return {concept: coordinates[rows[concept]].mean(0) for concept in sorted(named)[:MOST_CONCEPTS]}


def merge(published: Mapping[str, Published], slots: int) -> Directory | None:
    """Merge what sites have published: one frame, in it the median over sites of each modality and concept.

    The frame is that of the median Gram, of each pair of anchors over the sites that cover it. Of two sites a
    median is the mean; of more of one modality, a minority that lies moves it no further than the others reach.
    A modality that one site alone speaks for is believed: in :meth:`Directory.prototypes_for` all count alike.

    Args:
        published: by site.
        slots: B.

    Returns:
        The directory, the same for any order of the sites; None where no site has a concept.
    """
    speakers = [p for _, p in sorted(published.items()) if p.prototypes]
    if not speakers:
        return None
    places = consensus_frame(torch.stack([_median_row(speakers, slot, slots) for slot in range(slots)])).float()
    found: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    for p in speakers:
        placed = frame_coordinates(torch.stack([*p.prototypes.values()]), p.gram, places[list(p.slots)])
        placed /= (placed.norm(dim=1, keepdim=True) / _FARTHEST).clamp(min=1.0)
        for concept, place in zip(p.prototypes, placed, strict=True):
            found[p.modality, concept].append(place)
    return Directory(
        places=places, prototypes={key: entry_median(torch.stack(found[key])) for key in sorted(found)}
    )


def _median_row(speakers: Sequence[Published], slot: int, slots: int) -> Tensor:
    """One row of the median Gram, (B,), float64, NaN where nobody covers a pair; a row at a time spares memory."""
    rows = torch.full((len(speakers), slots), float("nan"), dtype=torch.float64)
    for row, p in zip(rows, speakers, strict=True):
        if slot in p.slots:
            row[list(p.slots)] = p.gram[p.slots.index(slot)].double()
    return entry_median(rows)


def to_tensors(directory: Directory | None) -> dict[str, Tensor]:
    """A directory as named tensors."""
    if directory is None:
        return {}
    found = {f"{modality}/{concept}": place for (modality, concept), place in directory.prototypes.items()}
    return {_PLACES: directory.places, **found}


def from_tensors(tensors: Mapping[str, Tensor], slots: int) -> Directory | None:
    """The directory that :func:`to_tensors` gave.

    Raises:
        ConfigError: a server of another version sent it: other shapes, or names that cannot be printed.
    """
    if not tensors:
        return None
    found: dict[tuple[str, str], Tensor] = {}
    for name, values in tensors.items():
        modality, _, concept = name.partition("/")
        shape = (slots, slots) if name == _PLACES else (slots,)
        good = values.dtype == torch.float32 and values.shape == shape and bool(values.isfinite().all())
        if not good or not is_name(modality) or (name != _PLACES and not is_name(concept)):
            raise ConfigError(
                f"{values.dtype} {tuple(values.shape)} under {name[:64]!r}",
                where="task: directory",
                expected=f"torch.float32 {shape} under printable names",
                remedy="run the same version of fedgram as the server",
            )
        if name != _PLACES:
            found[modality, concept] = values
    if _PLACES not in tensors or not found:
        raise ConfigError("a directory without places or concepts", where="task: directory", expected="both")
    return Directory(places=tensors[_PLACES], prototypes=found)
