"""Findings about classes, labels and groups over the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fedgram.anchors import AnchorSet
from fedgram.checks.finding import Finding
from fedgram.config.site import SiteConfig
from fedgram.modalities.base import Modality
from fedgram.records import Sample
from fedgram.sites.samples import concepts_of

Parts = Mapping[str, Sequence[Sample]]
FEW = 10  # training samples of a class, test samples or pairs of a site
_UNEVEN = 10  # times as many samples in one class as in another


def counts(parts: Parts) -> dict[str, Counter[str]]:
    """The number of samples by split and class or label."""
    return {part: Counter(label for s in samples for label in s.labels) for part, samples in parts.items()}


def few(parts: Parts) -> Iterator[Finding]:
    """Classes that training sees too little of."""
    trained = counts(parts)["train"]
    rare = sorted(label for label, count in trained.items() if count < FEW)
    if rare:
        yield Finding(
            "warning", f"fewer than {FEW} training samples of {', '.join(rare)}", "add some, or leave it out"
        )


def untested(parts: Parts) -> Iterator[Finding]:
    """Classes that the test lacks."""
    yield from _lacking(parts, "test", "tested")


def unmeasured(parts: Parts) -> Iterator[Finding]:
    """Classes that the validation lacks, and a test that says little."""
    if parts["validation"]:
        yield from _lacking(parts, "validation", "validated")
    if len(parts["test"]) < FEW:
        yield Finding(
            "warning", f"{len(parts['test'])} test samples: a test metric says little", "add samples or groups"
        )


def _lacking(parts: Parts, part: str, word: str) -> Iterator[Finding]:
    found = counts(parts)
    lacking = sorted(label for label in found["train"] if not found[part][label])
    if lacking:
        yield Finding("warning", f"never {word}: {', '.join(lacking)}", "add samples of another group (patient)")


def unbalanced(config: SiteConfig, parts: Parts) -> Iterator[Finding]:
    """Classes of very different size."""
    trained = counts(parts)["train"]
    if config.class_weights == "equal" and trained and max(trained.values()) > _UNEVEN * min(trained.values()):
        large, small = (pick(trained, key=lambda c: (trained[c], c)) for pick in (max, min))
        yield Finding(
            "warning",
            f"{trained[large]} training samples of {large} and {trained[small]} of {small}",
            'say class_weights = "balanced" in the site file',
        )


def groups(config: SiteConfig, parts: Parts) -> Iterator[Finding]:
    """A warning where every sample is a group of its own."""
    names = [sample.group for samples in parts.values() for sample in samples]
    if len(names) > 1 and len(set(names)) == len(names) and config.columns.group != config.columns.id:
        yield Finding(
            "warning",
            "every sample is a group of its own: two samples of one patient may be on two sides of the split",
            "name the patient's column as group (images: a folder for each patient); "
            'group = "id" under [columns] if it is right',
        )


def without_anchors(modality: Modality, anchors: AnchorSet, parts: Parts) -> Iterator[Finding]:
    """Concepts that no anchor of this modality has."""
    anchored = anchors.concepts(modality.name)
    concepts = concepts_of(parts["train"])
    if not concepts:
        yield Finding(
            "ok",
            "the data name no concepts: this site trains, but nothing can be named by its labels",
            'say `concept = "…"` under [columns] if a column has the concepts of the anchors',
        )
        return
    lacking = [concept for concept in concepts if concept not in anchored]
    if lacking:
        level = "failure" if len(lacking) == len(concepts) else "warning"
        yield Finding(
            level,
            f"no {modality.name} anchor of {', '.join(lacking)}",
            f"the anchors have {', '.join(dict.fromkeys(anchored)) or 'none'}: names must be the same",
        )
