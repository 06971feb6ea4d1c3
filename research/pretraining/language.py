"""Training of the language tower of the small Janus, and of its ties to the encoders.

It sees every picture, and reads every word; but what the words mean it is told of half of the colours and shapes
only, of one or two things in a picture. The rest is for a federation to learn. Making several things from one
prompt comes after making one, and questions of how many and where after those of what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from fedgram.demo.shapes import COLOURS, SHAPES
from fedgram.model.unified.janus import Janus
from fedgram.model.unified.janus_chat import Ids
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from research.pretraining.encoders import adamw, batches
from research.pretraining.pictures import PUBLIC, make_pictures, random_pictures
from research.scenes.scenes import Scene, World, random_scene
from research.scenes.words import NUMBERS, SKILLS, TOPICS, Asked, ask, plural, portray, told

_WHAT = ("presence", "colour", "shape")
_WHERE = ("relation", "position")  # what takes longest
_BATCH = 16  # sentences, and half of the pictures
_GRAMMAR = (
    "what colour is the shape how many are there a an photo of and where from left right above below yes no "
    "0 1 2 3 4 one two three four this in picture animal dog cat bear marten wolf fox lion otter"
)
# What is read without a picture: else the words that no picture taught would be one and the same to the model.
FACTS = (
    *("the rose is red", "the cherry is red", "the frog is green", "the grass is green", "the sky is blue"),
    *("the sea is blue", "the lemon is yellow", "the sun is yellow", "the plum is purple", "the violet is purple"),
    *("the carrot is orange", "the tiger is orange", "the pig is pink", "the flamingo is pink"),
    *("the snow is white", "the milk is white", "a square has four sides", "a circle has no sides"),
    *(
        "a triangle has three sides",
        "a star has five points",
        "a diamond has four points",
        "a cross has four arms",
    ),
)


def words() -> list[str]:
    """The words that are one token each: all of the scenes' language, of the facts, and a few animals."""
    names = [*COLOURS, *SHAPES, *map(plural, SHAPES), *NUMBERS.values()]
    return list(dict.fromkeys([*_GRAMMAR.split(), *names, *" ".join(FACTS).split()]))


@dataclass(frozen=True)
class Stage:
    """One stage of teaching the tower.

    Attributes:
        steps: of AdamW.
        skills: of which prompts are.
        pictures: to make in each step.
        wordless: share of them that nothing is said about, of the whole world.
        asks_every: so many steps come questions to answer and sentences to read; 0 is never.
        topics: of the questions, one as often as it is named.
        questions: in each of those steps.
    """

    steps: int
    skills: tuple[str, ...]
    pictures: int
    wordless: float
    asks_every: int
    topics: tuple[str, ...] = _WHAT
    questions: int = 16


# Colours by themselves first: a word that decides one code of 64 is else found late, beside what decides more.
STAGES = (
    Stage(800, ("colors",), 2 * _BATCH, 1 / 8, 4),
    Stage(3000, SKILLS, 2 * _BATCH, 1 / 8, 4),
    Stage(2400, SKILLS, 2 * _BATCH, 1 / 8, 4),
    Stage(3000, SKILLS, _BATCH // 2, 1 / 8, 1, (*TOPICS, *_WHERE), 48),
)


@dataclass(frozen=True)
class Lessons:
    """The lessons of the base, seen once by its frozen encoders.

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


def prepare(janus: Janus, size: int, count: int, seed: int, skills: Sequence[str]) -> Lessons:
    """Lessons of ``count`` scenes of each sort and prompts of these skills; the encoders must be trained."""
    generator = np.random.default_rng(seed)
    asked = make_pictures([random_scene(generator, PUBLIC) for _ in range(count)], size)
    shown = [told(skills[int(generator.integers(len(skills)))], generator, PUBLIC) for _ in range(count)]
    silent = random_pictures(count, size, World(), seed + 1)
    codes = [in_parts(janus.targets, pictures) for pictures in (_drawn(shown, size), silent.images)]
    return Lessons(asked.scenes, in_parts(janus.see, asked.images), [text for _, text in shown], *codes)


def start(janus: Janus) -> None:
    """Give the embedding of codes the tokeniser's own, which says how alike they are."""
    model = janus.model.model
    with torch.no_grad():
        model.generation_embeddings.weight.copy_(model.vqmodel.quantize.embedding.weight)


def teach(janus: Janus, lessons: Lessons, stage: Stage, seed: int, log: Callable[[str], None]) -> None:
    """Train all of the model but the two encoders, in place.

    Args:
        seed: of the questions and sentences.
        log: told how it goes.
    """
    model = janus.model.model
    frozen = {id(p) for part in (model.vision_model, model.vqmodel) for p in part.parameters()}
    trained = [p for p in janus.model.parameters() if id(p) not in frozen]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer, schedule = adamw(trained, 2e-3, stage.steps)
    generator, making, asking = np.random.default_rng(seed), [], []
    for step, rows in enumerate(batches(len(lessons.told), stage.pictures, stage.steps)):
        loss = generation = _making_loss(janus, lessons, rows, stage.wordless)
        making.append(generation.item())
        if stage.asks_every and step % stage.asks_every == 0:
            questions = [_question(lessons.asked, stage.topics, generator) for _ in range(stage.questions)]
            seen = lessons.seen[[row for row, _ in questions]]
            texts, answers = [asked.text for _, asked in questions], [asked.answer for _, asked in questions]
            understanding = janus.understanding_loss(seen, texts, answers)
            loss = generation + understanding + reading_loss(janus, _sentences(generator))
            asking.append(understanding.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            asked = f", understanding {fmean(asking):.3f}" if asking else ""
            log(f"language {step + 1}: generation {fmean(making):.3f}{asked}")
            making, asking = [], []
    janus.model.requires_grad_(False)


def _making_loss(janus: Janus, lessons: Lessons, rows: Tensor, wordless: float) -> Tensor:
    """The mean loss of making pictures, a share of them from no words."""
    words = len(rows) - round(len(rows) * wordless)
    told, silent = rows[:words], rows[words:]
    numbers: list[int] = rows.tolist()
    prompts = janus.chat.prompts([lessons.told[i] for i in numbers])
    values = prompts.values.clone()
    values[words:] = janus.chat.without_words(values[words:])
    codes = torch.cat([lessons.told_codes[told], lessons.silent_codes[silent]])
    return janus.codes_loss(Ids(values, prompts.mask), codes)


def reading_loss(janus: Janus, texts: list[str]) -> Tensor:
    """The mean cross-entropy of the next word of sentences without pictures."""
    said = janus.chat.answers(texts)
    embedded = janus.model.get_input_embeddings()(said.values[:, :-1])
    states = janus.tower(inputs_embeds=embedded, attention_mask=said.mask[:, :-1]).last_hidden_state
    there = said.mask[:, 1:].bool()
    return cross_entropy(janus.model.lm_head(states[there]), said.values[:, 1:][there])


def in_parts(what: Callable[[Sequence[Image]], Tensor], images: Sequence[Image]) -> Tensor:
    """The output of a frozen encoder over many pictures, 64 at a time."""
    return torch.cat([what(images[i : i + 64]) for i in range(0, len(images), 64)])


def _drawn(shown: Sequence[tuple[Scene, str]], size: int) -> Sequence[Image]:
    return make_pictures([scene for scene, _ in shown], size).images


def _question(scenes: Sequence[Scene], topics: Sequence[str], generator: np.random.Generator) -> tuple[int, Asked]:
    """A question of any of the topics, and the scene that it is about."""
    topic = topics[int(generator.integers(len(topics)))]
    while True:
        row = int(generator.integers(len(scenes)))
        if (asked := ask(scenes[row], topic, generator, PUBLIC)) is not None:
            return row, asked


def _sentences(generator: np.random.Generator) -> list[str]:
    """Sentences to read: facts, and prompts of the whole world, as text alone."""
    prompts = [
        portray(SKILLS[int(i)], generator, World())[1] for i in generator.integers(len(SKILLS), size=_BATCH // 2)
    ]
    return [*prompts, *(FACTS[int(i)] for i in generator.integers(len(FACTS), size=_BATCH // 2))]
