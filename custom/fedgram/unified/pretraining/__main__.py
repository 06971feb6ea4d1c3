"""Make the embedded small Janus again: ``python -m fedgram.unified.pretraining FOLDER``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from fedgram.pretrained import quiet_loading
from fedgram.unified.janus import Janus
from fedgram.unified.janus_chat import Chat
from fedgram.unified.pretraining import encoders, language
from fedgram.unified.pretraining.checkpoint import Size, make_model, make_processor
from fedgram.unified.pretraining.pictures import random_pictures
from fedgram.unified.scenes import World

SEED = 0
_POOL = 4000


def main(folder: Path, vision: int = 700, tokeniser: int = 900, tower: int = 1200) -> None:
    """Pre-train and save in bf16; the numbers are steps of the three stages."""
    started = time.perf_counter()
    torch.manual_seed(SEED)
    size = Size()

    def log(line: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {line}", flush=True)

    processor = make_processor(language.words(), size)
    model = make_model(processor.tokenizer, size)
    pictures = random_pictures(_POOL, size.pixels, World(), SEED)
    log(f"{_POOL} pictures drawn")
    encoders.train_vision(model.model.vision_model, pictures, size.patch, vision, log)
    encoders.train_tokeniser(model.model.vqmodel, pictures, size.patch, tokeniser, log)
    model.requires_grad_(False).eval()
    janus = Janus(model, Chat(processor, "the small Janus"), processor)
    language.train_language(janus, size.pixels, _POOL, tower, SEED + 1, log)
    with quiet_loading():
        model.bfloat16().save_pretrained(folder)
        processor.save_pretrained(folder)
    log(f"saved in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
