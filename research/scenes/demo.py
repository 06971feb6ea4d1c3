"""The embedded demo of FedUMM, made again: four sites with rendered scenes and silhouettes.

``python -m research.scenes.demo`` writes :data:`ARCHIVE`. In it, ``site-1`` is a folder of questions in VQA v2's
format, ``site-1/captions.jsonl`` a table of captions, ``rehearsal`` captions of what the base
can make, ``prompts.jsonl`` prompts of GenEval. The base knows four of
the colours and three of the shapes by name, one or two things in a picture, and simple questions
(:mod:`research.pretraining`).
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from fedgram.data.captions import TABLE, read_captions
from fedgram.data.items import Question
from fedgram.data.vqa import read_vqa
from fedgram.demo import files

from research.partition.shares import deal, write_shares
from research.pretraining.pictures import PUBLIC
from research.scenes.data import silhouette_questions, write_scene_captions, write_scene_questions
from research.scenes.prompts import make_prompts, write_prompts
from research.scenes.scenes import World

ARCHIVE = Path(files.__file__).with_name("fedumm.zip")
WORLD = World(
    colours=("red", "green", "blue", "yellow", "purple", "orange"),
    shapes=("square", "circle", "triangle", "star"),
    most=2,
)
SITES, ALPHA, SEED = 4, 0.5, 0
_PIXELS = 32
_QUESTIONS, _CAPTIONS, _SILHOUETTES, _PROMPTS = 1200, 4800, 120, 12  # prompts of each skill, at most
_REHEARSED = 2400  # public captions


def build(folder: Path, cache: Path) -> None:
    """Draw the federation into an empty folder, dealt by a Dirichlet over what the pictures show."""
    with tempfile.TemporaryDirectory() as drawn:
        scenes = Path(drawn)
        write_scene_questions(scenes / "vqa", "train2014", _QUESTIONS, SEED, WORLD, pixels=_PIXELS)
        write_scene_captions(scenes / "captions", _CAPTIONS, SEED + 1, WORLD, pixels=_PIXELS)
        questions = [*read_vqa(scenes / "vqa"), *_silhouettes(cache)]
        captions = read_captions(scenes / "captions" / TABLE)
        write_shares(folder, deal(questions, captions, SITES, ALPHA, SEED, "concept"))
    write_scene_captions(folder / "rehearsal", _REHEARSED, SEED + 3, PUBLIC, pixels=_PIXELS)
    write_prompts(folder / "prompts.jsonl", make_prompts(WORLD, _PROMPTS, SEED + 2))


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder; the same files give the same bytes."""
    with ZipFile(archive, "w") as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(path.relative_to(folder).as_posix())
            packed.writestr(entry, path.read_bytes(), ZIP_DEFLATED, 9)


def _silhouettes(cache: Path) -> list[Question]:
    """Some of the demo's silhouettes, evenly spread, with ids that no scene has."""
    found = silhouette_questions(files.embedded("demo:carnivora/image", cache))
    every = max(1, len(found) // _SILHOUETTES)
    pairs = [found[i : i + 2] for i in range(0, len(found), 2 * every)]
    spread = enumerate((q for pair in pairs for q in pair), _QUESTIONS + 1)
    return [replace(q, id=str(number)) for number, q in spread]


def main() -> None:
    """Write the archive that comes with the package."""
    with tempfile.TemporaryDirectory() as built, tempfile.TemporaryDirectory() as cache:
        build(Path(built), Path(cache))
        pack(Path(built), ARCHIVE)


if __name__ == "__main__":
    main()
