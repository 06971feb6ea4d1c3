"""The embedded small Janus, made again: ``python -m research.pretraining FOLDER [BEGUN]``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from fedgram.config.job import BackboneConfig
from fedgram.model.unified.janus import Janus, load_janus
from fedgram.model.unified.janus_chat import Chat
from fedgram.pretrained import quiet_loading

from research.pretraining import encoders, language
from research.pretraining.checkpoint import Size, make_model, make_processor
from research.pretraining.pictures import random_pictures
from research.scenes.scenes import World

SEED = 0
_GUIDANCE = 1.5  # what is right for a model this small


def main(
    folder: Path,
    begun: Path | None = None,
    vision: int = 1400,
    tokeniser: int = 600,
    stages: Sequence[language.Stage] = language.STAGES,
    pool: int = 12000,
) -> None:
    """Pre-train a small Janus and save it in bf16.

    Args:
        folder: for the checkpoint.
        begun: folder of a checkpoint with which the last stage of the language tower begins; all is done if None.
        vision, tokeniser: steps of these stages.
        stages: of the language tower.
        pool: scenes of each sort, for the encoders and for each stage.
    """
    started = time.perf_counter()
    torch.manual_seed(SEED)
    size = Size()

    def log(line: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {line}", flush=True)

    if begun is None:
        processor = make_processor(language.words(), size)
        model = make_model(processor.tokenizer, size)
        model.generation_config.guidance_scale = _GUIDANCE
        pictures = random_pictures(pool, size.pixels, World(), SEED)
        encoders.train_vision(model.model.vision_model, pictures, size.patch, vision, log)
        encoders.train_tokeniser(model.model.vqmodel, pictures, size.patch, tokeniser, log)
        model.bfloat16().float()  # as it will be saved: rounded encoders choose other codes than before
        model.requires_grad_(False).eval()
        janus = Janus(model, Chat(processor, "the small Janus"), processor)
        language.start(janus)
    else:
        janus = load_janus(BackboneConfig("begun"), {"begun": str(begun)})
        model, processor = janus.model, janus.processor
    left = [*enumerate(stages, SEED + 1)]
    for seed, stage in left if begun is None else left[-1:]:
        lessons = language.prepare(janus, size.pixels, pool, seed, stage.skills)
        language.teach(janus, lessons, stage, seed, log)
    with quiet_loading():
        model.bfloat16().save_pretrained(folder)
        processor.save_pretrained(folder)
    log(f"saved in {folder}")


if __name__ == "__main__":
    named, *rest = map(Path, sys.argv[1:])
    main(named, rest[0] if rest else None)
