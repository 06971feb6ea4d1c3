"""GenEval of the study: by skill, by new and known words, and what the tokeniser alone would reach.

A prompt is *new* if it names a thing or a colour that the base was never told of, else *known*.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import fmean

import numpy as np
from fedgram.data.prompts import Prompt
from fedgram.model.unified.janus import Janus
from fedgram.scoring.geneval.exact import ExactDetector
from fedgram.scoring.geneval.rules import Detector, fault
from fedgram.sites.base import derive_generator
from fedgram.sites.unified import UnifiedSite
from PIL.Image import Image

from research.pretraining.pictures import PUBLIC
from research.scenes.demo import WORLD
from research.scenes.prompts import describe
from research.scenes.scenes import World, draw
from research.scenes.words import SKILLS, portray

_PART = 36  # pictures at a time
_TRUE = 24  # true pictures of each skill


def made(site: UnifiedSite, prompts: Sequence[Prompt]) -> dict[str, float]:
    """GenEval of the pictures that a site's model makes; the draws are the same for every model."""
    draws, images = derive_generator(site.job.seed, "geneval"), list[Image]()
    for start in range(0, len(prompts), _PART):
        images += site.model.unified.generate([p.text for p in prompts[start : start + _PART]], draws)
    return judged(prompts, images, site.detector)


def judged(prompts: Sequence[Prompt], images: Sequence[Image], detector: Detector) -> dict[str, float]:
    """The share of right pictures: of all prompts, of the new and the known ones, and of every skill."""
    right = [float(fault(image, p, detector) is None) for p, image in zip(prompts, images, strict=True)]
    kinds: dict[str, list[float]] = {}
    for prompt, value in zip(prompts, right, strict=True):
        for kind in ("geneval", "geneval new" if is_new(prompt) else "geneval known", f"geneval {prompt.tag}"):
            kinds.setdefault(kind, []).append(value)
    return {kind: fmean(values) for kind, values in kinds.items()}


def ceiling(model: Janus, world: World, seed: int) -> dict[str, float]:
    """GenEval of true pictures that the model's tokeniser gives back: no training gets above it."""
    generator = np.random.default_rng(seed)
    told = [(skill, *portray(skill, generator, world)) for skill in SKILLS for _ in range(_TRUE)]
    prompts = [describe(*one) for one in told]
    true = [draw(scene, 32) for _, scene, _ in told]
    found = judged(prompts, model.pictures(model.targets(true)), ExactDetector())
    return {f"ceiling {kind}": found[kind] for kind in ("geneval", "geneval new", "geneval known")}


def is_new(prompt: Prompt) -> bool:
    """Whether a prompt names a thing or a colour that the base was never told of."""
    unheard = set(product(WORLD.shapes, (None, *WORLD.colours))) - set(
        product(PUBLIC.shapes, (None, *PUBLIC.colours))
    )
    return any((wanted.label, wanted.colour) in unheard for wanted in prompt.include)
