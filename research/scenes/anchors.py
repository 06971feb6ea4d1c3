"""Rebuilds the anchor sets of rendered scenes, for jobs/fedumm and jobs/fedumm-mixed: pictures and sentences.

``python -m research.scenes.anchors``
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from fedgram.anchors.build import build

from research.scenes.demo import WORLD
from research.scenes.scenes import draw, place
from research.scenes.words import with_article

ANCHORS = Path(__file__).resolve().parents[2] / "anchors"
EACH = {"train": 5, "heldout": 3}  # of each shape
# The source is the first name of this script: it is part of the manifest, whose hash the jobs pin.
TERMS = {"licence": "CC0-1.0", "source": "anchors/build_scenes.py", "origin": "synthetic"}


def main(out: Path) -> None:
    """Write ``train`` and ``heldout`` below ``out``: the same every time."""
    generator = np.random.default_rng(20260121)
    for part, each in EACH.items():
        with tempfile.TemporaryDirectory() as folder:
            for shape in WORLD.shapes:
                for number in range(each):
                    colour = WORLD.colours[int(generator.integers(len(WORLD.colours)))]
                    scene = place([(colour, shape)], generator, WORLD)
                    left = "left" if scene.things[0].x < 0.5 else "right"
                    for kind in ("image", "text"):
                        (Path(folder) / kind / shape).mkdir(parents=True, exist_ok=True)
                    draw(scene, 64).save(Path(folder) / "image" / shape / f"{number}.png")
                    text = (
                        f"a photo of {with_article(f'{colour} {shape}')} on the {left}, number {number} of {part}"
                    )
                    (Path(folder) / "text" / shape / f"{number}.txt").write_text(text + "\n")
            shutil.rmtree(out / part, ignore_errors=True)
            build(Path(folder), out / part, name=f"scenes-{part}", terms=TERMS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ANCHORS / "scenes")
