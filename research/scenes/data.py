"""The embedded data of FedUMM in the formats that real data have: rendered scenes, and animal silhouettes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fedgram.data.items import Caption, Question
from fedgram.errors import ConfigError, DataError

from research.partition.writing import write_captions, write_vqa
from research.scenes.scenes import World, draw, random_scene
from research.scenes.words import SKILLS, TOPICS, ask, told, with_article

ANIMALS: Mapping[str, str] = {"Canidae": "dog", "Felidae": "cat", "Ursidae": "bear"}
_PEOPLE = 10  # who answer alike: VQA's score cannot reach 1 below four


def write_scene_questions(
    folder: Path,
    subtype: str,
    count: int,
    seed: int,
    world: World,
    *,
    pixels: int = 48,
    topics: Sequence[str] = TOPICS,
) -> None:
    """Write ``count`` questions in VQA v2's format, each about a scene of its own; the topics in turn.

    A scene's concept is the shape of its first thing.

    Raises:
        ConfigError: no topics, or an unknown one.
        DataError: ``count`` is not positive.
    """
    if not topics:
        raise ConfigError("no topics", where="topics", expected=", ".join(TOPICS))
    generator = np.random.default_rng(seed)
    with TemporaryDirectory() as drawn:
        questions = []
        for number in range(count):
            scene, topic = random_scene(generator, world), topics[number % len(topics)]
            while (asked := ask(scene, topic, generator, world)) is None:
                scene = random_scene(generator, world)
            picture = Path(drawn) / f"{number}.png"
            draw(scene, pixels).save(picture)
            answers = (asked.answer,) * _PEOPLE
            concept = scene.things[0].shape
            questions.append(
                Question(
                    id=str(number + 1),
                    image=picture,
                    text=asked.text,
                    answers=answers,
                    answer=asked.answer,
                    kind=asked.kind,
                    concept=concept,
                )
            )
        write_vqa(folder, subtype, questions)


def write_scene_captions(
    folder: Path, count: int, seed: int, world: World, *, pixels: int = 48, skills: Sequence[str] = SKILLS
) -> None:
    """Write ``count`` scenes with captions, see :func:`~research.scenes.words.told`; the skills in turn.

    Raises:
        ConfigError: no skills, an unknown one, or a world that is too small for one.
        DataError: ``count`` is not positive.
    """
    if not skills:
        raise ConfigError("no skills", where="skills", expected=", ".join(SKILLS))
    generator = np.random.default_rng(seed)
    with TemporaryDirectory() as drawn:
        captions = []
        for number in range(count):
            scene, text = told(skills[number % len(skills)], generator, world)
            picture = Path(drawn) / f"{number}.png"
            draw(scene, pixels).save(picture)
            captions.append(Caption(id=str(number + 1), image=picture, text=text, concept=scene.things[0].shape))
        write_captions(folder, captions)


def silhouette_questions(folder: Path) -> list[Question]:
    """Ask two questions about each silhouette of the demo's image site, ``<family>/<name>.png``.

    "which animal is this?", and "is this a bear?": half of the latter are to be answered with yes. A hash of the
    picture says which, so that the same is asked whatever else lies in the folder.

    Raises:
        DataError: no pictures of a family in :data:`ANIMALS`.
    """
    questions = []
    for path in sorted(folder.glob("*/*.png")):
        if path.parent.name not in ANIMALS:
            continue
        animal, chance = ANIMALS[path.parent.name], sha256(path.read_bytes()).digest()
        others = sorted(set(ANIMALS.values()) - {animal})
        named = animal if chance[0] % 2 else others[chance[1] % len(others)]
        asked = (
            ("which animal is this?", animal, "other"),
            (f"is this {with_article(named)}?", "yes" if named == animal else "no", "yes/no"),
        )
        for text, answer, kind in asked:
            number = str(len(questions) + 1)
            questions.append(
                Question(
                    id=number,
                    image=path,
                    text=text,
                    answers=(answer,) * _PEOPLE,
                    answer=answer,
                    kind=kind,
                    concept=animal,
                )
            )
    if not questions:
        raise DataError("no silhouettes", where=folder, expected=f"folders {', '.join(ANIMALS)} of PNG pictures")
    return questions
