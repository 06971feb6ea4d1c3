"""The language tower of the small Janus, and what ties it to the encoders.

It sees every picture, and reads every word; but what the words mean it is told of half of the colours and shapes
only, of one or two things in a picture, and of simple questions. The rest is for a federation to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedgram.unified.janus import Janus
from fedgram.unified.janus_chat import Ids
from fedgram.unified.pretraining.encoders import adamw, batches
from fedgram.unified.pretraining.pictures import PUBLIC, make_pictures, random_pictures
from fedgram.unified.scene_words import NUMBERS, SKILLS, ask, plural, portray
from fedgram.unified.scenes import COLOURS, SHAPES, Scene, World

TOPICS = ("presence", "colour", "shape")  # of PUBLIC, that the base is taught
TAUGHT = ("single_object", "colors")  # skills of generation, likewise
_BATCH = 16
_GRAMMAR = (
    "what colour is the shape how many are there a an photo of and where from left right above below yes no "
    "0 1 2 3 4 one two three four this in picture animal dog cat bear marten wolf fox lion otter"
)


def words() -> list[str]:
    """Those that are one token each: all of the scenes' language, and a few animals."""
    names = [*COLOURS, *SHAPES, *map(plural, SHAPES), *NUMBERS.values()]
    return list(dict.fromkeys([*_GRAMMAR.split(), *names]))


@dataclass(frozen=True)
class Lessons:
    """What the base is taught, seen once by its frozen encoders.

    Attributes:
        asked: scenes to ask about.
        seen: their pictures, (N, L, d_v).
        told: prompts of other scenes.
        told_codes: of their pictures, (N, T).
        silent_codes: of pictures of the whole world that nothing is said about, (N, T).
    """

    asked: Sequence[Scene]
    seen: Tensor
    told: Sequence[str]
    told_codes: Tensor
    silent_codes: Tensor


def prepare(janus: Janus, size: int, count: int, seed: int) -> Lessons:
    """``count`` scenes of each sort; the encoders of ``janus`` are trained."""
    generator = np.random.default_rng(seed)
    asked = make_pictures([_public_scene(generator) for _ in range(count)], size)
    told = [portray(TAUGHT[int(generator.integers(2))], generator, PUBLIC) for _ in range(count)]
    silent = random_pictures(count, size, World(), seed + 1)
    codes = [in_parts(janus.targets, pictures) for pictures in (_drawn(told, size), silent.images)]
    return Lessons(asked.scenes, in_parts(janus.see, asked.images), [text for _, text in told], *codes)


def start(janus: Janus) -> None:
    """Give the embedding of codes the tokeniser's own, which says how alike they are."""
    model = janus.model.model
    with torch.no_grad():
        model.generation_embeddings.weight.copy_(model.vqmodel.quantize.embedding.weight)


def teach(
    janus: Janus, lessons: Lessons, steps: int, seed: int, log: Callable[[str], None], *, asks: bool
) -> None:
    """Train all but the two encoders, in place.

    Args:
        steps: of AdamW: in each, 16 pictures to make, two of three from words, and 16 sentences to read.
        seed: of the questions and sentences.
        log: told how it goes.
        asks: also 16 questions in each step; else 32 pictures to make, and nothing to read.
    """
    model = janus.model.model
    frozen = {id(p) for part in (model.vision_model, model.vqmodel) for p in part.parameters()}
    trained = [p for p in janus.model.parameters() if id(p) not in frozen]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer, schedule = adamw(trained, 2e-3, steps)
    generator, making, asking = np.random.default_rng(seed), 0.0, 0.0
    for step, rows in enumerate(batches(len(lessons.told), _BATCH if asks else 2 * _BATCH, steps)):
        generation = _making_loss(janus, lessons, rows)
        loss, making = generation, making + generation.item()
        if asks:
            questions = [_question(lessons.asked[i], generator) for i in rows.tolist()]
            texts, answers = map(list, zip(*questions, strict=True))
            understanding = janus.understanding_loss(lessons.seen[rows], texts, answers)
            loss = generation + understanding + reading_loss(janus, _sentences(generator))
            asking += understanding.item()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            log(f"language {step + 1}: understanding {asking / 100:.3f}, generation {making / 100:.3f}")
            making = asking = 0.0
    janus.model.requires_grad_(False)


def _making_loss(janus: Janus, lessons: Lessons, rows: Tensor) -> Tensor:
    """Of pictures, two of three from words, the others from none."""
    told, silent = rows[: len(rows) * 2 // 3], rows[len(rows) * 2 // 3 :]
    numbers: list[int] = rows.tolist()
    prompts = janus.chat.prompts([lessons.told[i] for i in numbers])
    values = prompts.values.clone()
    values[len(told) :] = janus.chat.without_words(values[len(told) :])
    codes = torch.cat([lessons.told_codes[told], lessons.silent_codes[silent]])
    return janus.codes_loss(Ids(values, prompts.mask), codes)


def reading_loss(janus: Janus, texts: list[str]) -> Tensor:
    """Mean cross-entropy of the next word of sentences without pictures."""
    said = janus.chat.answers(texts)
    embedded = janus.model.get_input_embeddings()(said.values[:, :-1])
    states = janus.tower(inputs_embeds=embedded, attention_mask=said.mask[:, :-1]).last_hidden_state
    there = said.mask[:, 1:].bool()
    return cross_entropy(janus.model.lm_head(states[there]), said.values[:, 1:][there])


def in_parts(what: Callable[[Sequence[Image]], Tensor], images: Sequence[Image]) -> Tensor:
    """A frozen encoder over many pictures, 64 at a time."""
    return torch.cat([what(images[i : i + 64]) for i in range(0, len(images), 64)])


def _drawn(told: Sequence[tuple[Scene, str]], size: int) -> Sequence[Image]:
    return make_pictures([scene for scene, _ in told], size).images


def _public_scene(generator: np.random.Generator) -> Scene:
    return portray("two_object" if generator.random() < 0.5 else "colors", generator, PUBLIC)[0]


def _question(scene: Scene, generator: np.random.Generator) -> tuple[str, str]:
    while True:
        asked = ask(scene, TOPICS[int(generator.integers(len(TOPICS)))], generator, PUBLIC)
        if asked is not None:
            return asked.text, asked.answer


def _sentences(generator: np.random.Generator) -> list[str]:
    """Prompts of the whole world, as text alone."""
    return [portray(SKILLS[int(generator.integers(len(SKILLS)))], generator, World())[1] for _ in range(_BATCH)]
