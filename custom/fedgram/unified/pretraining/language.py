"""The language tower of the small Janus, and what ties it to the encoders.

It sees every picture, and reads every word; but what the words mean it is told of half of the colours and shapes
only, of one or two things in a picture, and of simple questions. The rest is for a federation to learn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedgram.unified.janus import Janus
from fedgram.unified.pretraining.encoders import adamw, batches
from fedgram.unified.pretraining.pictures import PUBLIC, make_pictures, random_pictures
from fedgram.unified.scene_words import NUMBERS, SKILLS, ask, plural, portray
from fedgram.unified.scenes import COLOURS, SHAPES, World

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


def train_language(janus: Janus, size: int, pool: int, steps: int, seed: int, log: Callable[[str], None]) -> None:
    """Train all but the two encoders, in place.

    Args:
        janus: with trained encoders.
        size: of the pictures.
        pool: how many scenes of each kind.
        steps: of AdamW: in each, questions on 16 pictures, 16 pictures to make from words or from none, and 16
            sentences.
        seed: of the scenes.
        log: told how it goes.
    """
    model = janus.model.model
    with torch.no_grad():
        model.generation_embeddings.weight.copy_(model.vqmodel.quantize.embedding.weight)
    frozen = {id(p) for part in (model.vision_model, model.vqmodel) for p in part.parameters()}
    trained = [p for p in janus.model.parameters() if id(p) not in frozen]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer, schedule = adamw(trained, 2e-3, steps)
    generator = np.random.default_rng(seed)
    asked = make_pictures([_public_scene(generator) for _ in range(pool)], size)
    seen = in_parts(janus.see, asked.images)
    told = [portray(TAUGHT[int(generator.integers(2))], generator, PUBLIC) for _ in range(pool)]
    told_codes = in_parts(janus.targets, make_pictures([scene for scene, _ in told], size).images)
    silent_codes = in_parts(janus.targets, random_pictures(pool, size, World(), seed + 1).images)
    for step, rows in enumerate(batches(pool, _BATCH, steps)):
        questions = [_question(asked.scenes[i], generator) for i in rows.tolist()]
        understanding = janus.understanding_loss(seen[rows], *map(list, zip(*questions, strict=True)))
        half = rows[: _BATCH // 2]
        prompts = janus.chat.prompts([told[i][1] for i in rows.tolist()])
        values = prompts.values.clone()
        values[len(half) :] = janus.chat.without_words(values[len(half) :])
        codes = torch.cat([told_codes[half], silent_codes[rows[len(half) :]]])
        generation = janus.codes_loss(type(prompts)(values, prompts.mask), codes)
        loss = understanding + generation + reading_loss(janus, _sentences(generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            log(f"language {step + 1}: {understanding.item():.3f} and {generation.item():.3f}")
    janus.model.requires_grad_(False)


def reading_loss(janus: Janus, texts: list[str]) -> Tensor:
    """Mean cross-entropy of the next word of sentences without pictures."""
    said = janus.chat.answers(texts)
    embedded = janus.model.get_input_embeddings()(said.values[:, :-1])
    states = janus.tower(inputs_embeds=embedded, attention_mask=said.mask[:, :-1]).last_hidden_state
    there = said.mask[:, 1:].bool()
    return cross_entropy(janus.model.lm_head(states[there]), said.values[:, 1:][there])


def in_parts(what: Callable[[list], Tensor], images: object) -> Tensor:
    """A frozen encoder over many pictures, 64 at a time."""
    images = list(images)  # type: ignore[call-overload]
    return torch.cat([what(images[i : i + 64]) for i in range(0, len(images), 64)])


def _public_scene(generator: np.random.Generator):
    return portray("two_object" if generator.random() < 0.5 else "colors", generator, PUBLIC)[0]


def _question(scene, generator: np.random.Generator) -> tuple[str, str]:
    while True:
        asked = ask(scene, TOPICS[int(generator.integers(len(TOPICS)))], generator, PUBLIC)
        if asked is not None:
            return asked.text, asked.answer


def _sentences(generator: np.random.Generator) -> list[str]:
    """Prompts of the whole world, as text alone."""
    return [portray(SKILLS[int(generator.integers(len(SKILLS)))], generator, World())[1] for _ in range(_BATCH)]
