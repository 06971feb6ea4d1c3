"""The part of a site's own file that is for a unified model, see :mod:`fedgram.config.site`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedgram.config.strict import expand_home
from fedgram.errors import ConfigError

_PATHS = ("questions", "captions", "prompts", "rehearsal")


@dataclass(frozen=True)
class UnifiedConfig:
    """The data of a unified site; its model is the job's backbone.

    Attributes:
        questions: folder of questions, annotations and pictures in the format of VQA v2.
        captions: table of pictures with the words to make them from, or COCO's JSON file.
        prompts: GenEval's metadata file, to evaluate what is made.
        detector: hub id or folder of an open-vocabulary detector that looks at photographs made; when absent, the
            exact one of rendered scenes.
        colours: hub id or folder of the CLIP that names colours for such a detector; GenEval's when absent.
        generation_weight: the weight of the loss of making pictures, beside that of answering questions.
        rehearsal: public pictures that the base can make already, in the format of ``captions``: every step learns
            a batch of them too, with the weight of making pictures, so that the skills of the base stay.
        drift_weight: how much the distance from the base's own prediction of those pictures counts, beside the
            loss of making them: more keeps more of what the base knew, and learns less of what is new.
    """

    questions: str | None = None
    captions: str | None = None
    prompts: str | None = None
    detector: str | None = None
    colours: str = "openai/clip-vit-large-patch14"
    generation_weight: float = 1.0
    rehearsal: str | None = None
    drift_weight: float = 3.0

    def __post_init__(self) -> None:
        expand_home(self, _PATHS)
        if self.questions is None and self.captions is None:
            raise ConfigError(
                "neither questions nor captions", where="unified", expected="the absolute path of one, or both"
            )
        for name in ("generation_weight", "drift_weight"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"{value!r}", where=f"unified.{name}", expected="not negative")

    def paths(self) -> dict[str, str | None]:
        """The settings that are paths, by name."""
        return {f"unified.{name}": getattr(self, name) for name in _PATHS}
