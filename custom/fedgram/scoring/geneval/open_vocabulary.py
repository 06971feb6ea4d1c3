"""The detector for photographs: an open-vocabulary model of transformers, and CLIP for colours.

GenEval's own figures come from Mask2Former over COCO's classes, with thresholds for it (0.3, and 0.9 to count).
Scores of another detector are on another scale: figures compare with each other, not with published ones, unless
the thresholds were checked against people.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image

from fedgram.data.boxes import Box
from fedgram.data.prompts import with_article
from fedgram.errors import BackboneError, ConfigError
from fedgram.pretrained import load_part
from fedgram.scoring.geneval.rules import Detection

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
_COLOUR_TEMPLATES = ("a photo of a {colour} {label}", "a photo of a {colour}-colored {label}")
_COLOUR_OF_ANYTHING = "a photo of a {colour} object"
_SAME = 0.5  # boxes of one label that overlap more are one thing: these detectors do not suppress doubles


class OpenVocabularyDetector:
    """Any zero-shot detector of transformers: OWL-ViT, OWLv2, Grounding DINO and others.

    Each label is asked for alone, so that a label means the same whatever else the prompt names.

    Args:
        detector: hub id or folder of a zero-shot object detector; code from the hub is never run.
        colours: hub id or folder of a CLIP-like model, which names the colour of a crop as GenEval does.
        threshold, counting_threshold: scores up to these do not count; depend on the detector.
        device: where both models compute.

    Raises:
        BackboneError: a model cannot be loaded.
        ConfigError: a threshold outside 0 to 1.
    """

    def __init__(
        self,
        detector: str,
        colours: str,
        *,
        threshold: float = 0.3,
        counting_threshold: float = 0.3,
        device: str = "cpu",
    ):
        from transformers import AutoModelForZeroShotImageClassification as Classifier
        from transformers import AutoModelForZeroShotObjectDetection as Finder
        from transformers import AutoProcessor

        for name, value in (("threshold", threshold), ("counting_threshold", counting_threshold)):
            if not 0 <= value < 1:
                raise ConfigError(f"{value}", where=name, expected="at least 0, less than 1")
        self.threshold, self.counting_threshold = threshold, counting_threshold
        self._finder, self._reader = _pair(Finder, AutoProcessor, detector, "detector", device)
        self._classifier, self._namer = _pair(Classifier, AutoProcessor, colours, "colours", device)
        # Those that find phrases in a sentence read a sentence back; those that score queries need none.
        reads_back = inspect.signature(self._reader.post_process_grounded_object_detection).parameters
        self._reads_sentences = "input_ids" in reads_back

    def find(self, image: Image, labels: Sequence[str]) -> list[Detection]:
        """Find the things of these labels; boxes in pixels."""
        rgb = image.convert("RGB")
        return [found for label in labels for found in self._find_one(rgb, label)]

    def colour(self, image: Image, detection: Detection) -> str:
        """The colour whose three prompts are nearest to the crop, on average, as in GenEval."""
        left, top, right, bottom = detection.box
        # A crop has a pixel at least, wherever the detector put the box.
        left, top = min(max(int(left), 0), image.width - 1), min(max(int(top), 0), image.height - 1)
        right, bottom = (
            max(min(round(right), image.width), left + 1),
            max(min(round(bottom), image.height), top + 1),
        )
        crop = image.convert("RGB").crop((left, top, right, bottom))
        templates = (*_COLOUR_TEMPLATES, _COLOUR_OF_ANYTHING)
        texts = [t.format(colour=colour, label=detection.label) for colour in COLOURS for t in templates]
        given = self._namer(text=texts, images=crop, return_tensors="pt", padding=True)
        with torch.no_grad():
            output = self._classifier(**given.to(self._classifier.device))
        named = torch.nn.functional.normalize(output.text_embeds, dim=-1).unflatten(0, (len(COLOURS), -1)).mean(1)
        nearest = (torch.nn.functional.normalize(named, dim=-1) @ output.image_embeds[0]).argmax()
        return COLOURS[int(nearest)]

    def _find_one(self, image: Image, label: str) -> list[Detection]:
        text = f"{label.lower()}." if self._reads_sentences else [[f"a photo of {with_article(label)}"]]
        given = self._reader(text=text, images=image, return_tensors="pt").to(self._finder.device)
        with torch.no_grad():
            output = self._finder(**given)
        extra = {"input_ids": given["input_ids"]} if self._reads_sentences else {}
        (found,) = self._reader.post_process_grounded_object_detection(
            output, threshold=self.threshold, target_sizes=[(image.height, image.width)], **extra
        )
        rows = zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True)
        return without_doubles([Detection(label, (box[0], box[1], box[2], box[3]), score) for box, score in rows])


def without_doubles(found: Sequence[Detection]) -> list[Detection]:
    """Keep the most certain detections; one that overlaps a kept one too much is the same thing again."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.score):
        if all(overlap(detection.box, other.box) <= _SAME for other in kept):
            kept.append(detection)
    return kept


def overlap(box: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 for boxes without area."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)) - both
    return both / union if union > 0 else 0.0


def _pair(kind: Any, processor: Any, source: str, where: str, device: str) -> tuple[Any, Any]:
    """Load a frozen model and the processor of its input."""
    reader = load_part(processor, source, where=where, error=BackboneError)
    return load_part(kind, source, where=where, error=BackboneError).eval().to(device), reader
