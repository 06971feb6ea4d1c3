"""The embedded demo of FedUMM: four sites with rendered scenes and silhouettes, drawn when first asked for.

``demo:fedumm/site-1`` is a folder of questions in VQA v2's format, ``demo:fedumm/site-1/captions.jsonl`` a table
of captions, ``demo:fedumm/prompts.jsonl`` prompts of GenEval. The base knows four of the colours and three of the
shapes by name, one or two things in a picture, and simple questions (:mod:`research.pretraining`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from fedgram import __version__
from fedgram.data.captions import TABLE, read_captions, write_captions
from fedgram.data.items import Caption, Question
from fedgram.data.prompts import write_prompts
from fedgram.data.vqa import read_vqa, write_vqa
from fedgram.demo import files as demo
from fedgram.demo.scene_data import silhouette_questions, write_scene_captions, write_scene_questions
from fedgram.demo.scene_prompts import make_prompts
from fedgram.demo.scenes import World
from fedgram.errors import DataError

WORLD = World(
    colours=("red", "green", "blue", "yellow", "purple", "orange"),
    shapes=("square", "circle", "triangle", "star"),
    most=2,
)
SITES, SEED = 4, 0
DEALT = Path(__file__).with_suffix(".json")  # a digit for each question and caption, in the order of their ids
PREFIX = "demo:fedumm/"
_PIXELS = 32
_QUESTIONS, _CAPTIONS, _SILHOUETTES, _PROMPTS = 1200, 4800, 120, 12  # prompts of each skill, at most


def drawn(name: str, cache: Path) -> Path:
    """The file or folder of a unified site's data that a name ``demo:fedumm/…`` stands for.

    Args:
        cache: the demo is drawn there, once.

    Raises:
        DataError: no such demo data.
    """
    folder = cache / "demo" / f"fedumm-{__version__}"
    if not folder.is_dir():
        _publish(folder, cache)
    path = folder / name.removeprefix(PREFIX)
    if not path.exists():
        raise DataError("no such demo data", where=name, expected=f"{PREFIX}site-1 to site-{SITES}")
    return path


def build(folder: Path, cache: Path) -> None:
    """Draw the federation into an empty folder, each item to the site that :data:`DEALT` names."""
    site_of = json.loads(DEALT.read_text())
    with tempfile.TemporaryDirectory() as drawn:
        questions, captions = draw_items(Path(drawn), cache)
        for site in map(str, range(1, SITES + 1)):
            own = [q for q in questions if site_of["questions"][int(q.id) - 1] == site]
            write_vqa(folder / f"site-{site}", "all", sorted(own, key=lambda q: q.id))
            said = [c for c in captions if site_of["captions"][int(c.id) - 1] == site]
            write_captions(folder / f"site-{site}", sorted(said, key=lambda c: c.id))
    write_prompts(folder / "prompts.jsonl", make_prompts(WORLD, _PROMPTS, SEED + 2))


def draw_items(folder: Path, cache: Path) -> tuple[list[Question], list[Caption]]:
    """All questions and captions of the federation, with their pictures in a folder; ids count from 1."""
    write_scene_questions(folder / "vqa", "train2014", _QUESTIONS, SEED, WORLD, pixels=_PIXELS)
    write_scene_captions(folder / "captions", _CAPTIONS, SEED + 1, WORLD, pixels=_PIXELS)
    questions = [*read_vqa(folder / "vqa"), *_silhouettes(cache)]
    return questions, read_captions(folder / "captions" / TABLE)


def _silhouettes(cache: Path) -> list[Question]:
    """Some of the demo's silhouettes, evenly spread, with ids that no scene has."""
    found = silhouette_questions(demo.embedded("demo:carnivora/image", cache))
    every = max(1, len(found) // _SILHOUETTES)
    pairs = [found[i : i + 2] for i in range(0, len(found), 2 * every)]
    spread = enumerate((q for pair in pairs for q in pair), _QUESTIONS + 1)
    return [replace(q, id=str(number)) for number, q in spread]


def _publish(target: Path, cache: Path) -> None:
    """Build beside the target and move it there: whoever builds first wins; a half-built folder is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        build(temporary, cache)
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():  # otherwise another process was first
            raise
