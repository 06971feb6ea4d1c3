"""The rules of GenEval's evaluate_images.py, by which a picture fulfils a prompt, over any detector."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from PIL.Image import Image

from fedgram.data.boxes import Box, relations
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import DataError

_MOST = 16  # detections of one label that count


@dataclass(frozen=True)
class Detection:
    """A thing found: its label, its box (in pixels or shares of the picture, one throughout), its score."""

    label: str
    box: Box
    score: float


class Detector(Protocol):
    """A detector of things and of their colours.

    Attributes:
        threshold: detections with a score up to this do not count.
        counting_threshold: the same for prompts that count, where a doubtful extra thing is a fault.
    """

    threshold: float
    counting_threshold: float

    def find(self, image: Image, labels: Sequence[str]) -> list[Detection]:
        """Find all things of these labels, in any order."""
        ...

    def colour(self, image: Image, detection: Detection) -> str:
        """The name of the colour of what was found."""
        ...


def fault(image: Image, prompt: Prompt, detector: Detector) -> str | None:
    """The reason why the picture does not fulfil the prompt; None where it does.

    Colour and position are those of the most certain ``count`` things of a label; more of them do no harm unless
    the prompt excludes so many.
    """
    found = _certain(image, prompt, detector)
    groups: list[list[Detection]] = []
    faults: list[str] = []
    for wanted in prompt.include:
        group = found[wanted.label][: wanted.count]
        wrong = _wrong(image, wanted, group, groups, detector)
        faults += [wrong] if wrong else []
        groups.append([] if wrong else group)
    for unwanted in prompt.exclude:
        if len(found[unwanted.label]) >= unwanted.count:
            number = len(found[unwanted.label])
            faults.append(f"expected fewer than {unwanted.count} of {unwanted.label}, found {number}")
    return "; ".join(faults) or None


def score(prompts: Sequence[Prompt], images: Sequence[Image], detector: Detector) -> Mapping[str, float]:
    """The share of pictures that fulfil their prompts, by skill, and ``overall``, the mean of the skills.

    Args:
        images: one for each prompt; a prompt with several pictures stands there as often.

    Raises:
        DataError: no prompts, or not one picture each.
    """
    if not prompts or len(prompts) != len(images):
        raise DataError(
            f"{len(images)} pictures", where="GenEval", expected=f"one for each of {len(prompts)} prompts"
        )
    right: dict[str, list[float]] = defaultdict(list)
    for prompt, image in zip(prompts, images, strict=True):
        right[prompt.tag].append(float(fault(image, prompt, detector) is None))
    skills = {tag: fmean(marks) for tag, marks in right.items()}
    return skills | {"overall": fmean(skills.values())}


def _certain(image: Image, prompt: Prompt, detector: Detector) -> dict[str, list[Detection]]:
    """The detections that count, by label, the most certain first."""
    least = detector.counting_threshold if prompt.tag == "counting" else detector.threshold
    labels = dict.fromkeys(wanted.label for wanted in (*prompt.include, *prompt.exclude))
    found: dict[str, list[Detection]] = defaultdict(list)
    for detection in sorted(detector.find(image, tuple(labels)), key=lambda d: -d.score):
        if detection.score > least and len(found[detection.label]) < _MOST:
            found[detection.label].append(detection)
    return found


def _wrong(
    image: Image,
    wanted: Wanted,
    group: Sequence[Detection],
    before: Sequence[Sequence[Detection]],
    detector: Detector,
) -> str | None:
    if len(group) < wanted.count:
        return f"expected {wanted.count} of {wanted.label}, found {len(group)}"
    if wanted.colour is not None:
        colours = Counter(detector.colour(image, detection) for detection in group)
        if colours[wanted.colour] < wanted.count:
            return f"expected {wanted.colour} for {wanted.label}, found {', '.join(sorted(colours))}"
    if wanted.position is None:
        return None
    relation, target = wanted.position
    if not before[target]:
        return f"nothing for {wanted.label} to be {relation}"
    if all(relation in relations(one.box, other.box) for one in group for other in before[target]):
        return None
    return f"expected {wanted.label} {relation} the other"
