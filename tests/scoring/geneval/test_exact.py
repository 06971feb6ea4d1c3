"""The exact detector reads rendered scenes, blurred and noisy ones too, and sees nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from fedgram.demo.shapes import GROUND, SHAPES
from fedgram.errors import ConfigError
from fedgram.scoring.geneval.exact import ExactDetector, look
from fedgram.scoring.geneval.rules import Detection, fault, score
from PIL import Image, ImageFilter

from research.scenes.prompts import describe
from research.scenes.scenes import Scene, Thing, World, draw, random_scene
from research.scenes.words import SKILLS, portray


def seen(picture: Image.Image) -> list[tuple[str, str]]:
    return sorted((colour, d.label) for d, colour in look(picture) if d.score > ExactDetector.threshold)


def truth(scene: Scene) -> list[tuple[str, str]]:
    return sorted((t.colour, t.shape) for t in scene.things)


def share_read(damage, pixels: int, count: int = 60) -> float:
    """Scenes of which every thing is found with its colour and shape, and nothing else."""
    generator = np.random.default_rng(3)
    scenes = [random_scene(generator, World()) for _ in range(count)]
    return sum(seen(damage(draw(s, pixels), generator)) == truth(s) for s in scenes) / count


def noisy(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    values = np.asarray(picture) + generator.normal(0, 25, (*picture.size, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def blotchy(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    pixels = np.array(picture)
    for x, y in generator.integers(0, picture.width - 2, (5, 2)):
        pixels[y : y + 2, x : x + 2] = generator.integers(0, 256, 3)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("pixels", [32, 48, 96])
def test_every_rendered_scene_is_read(pixels):
    assert share_read(lambda picture, _: picture, pixels) == 1.0


@pytest.mark.parametrize(
    "damage",
    [noisy, blotchy, lambda p, _: p.filter(ImageFilter.GaussianBlur(0.6))],
    ids=["noise", "blotch", "blur"],
)
def test_damaged_scenes_are_read(damage):
    assert share_read(damage, 32) >= 0.95


def test_heavily_blurred_scenes_are_mostly_read():
    """Without blurred templates a pixel of blur turns stars of ten pixels into circles: 0.7."""
    assert share_read(lambda picture, _: picture.filter(ImageFilter.GaussianBlur(1)), 32) >= 0.8


def test_boxes_are_where_things_are():
    scene = random_scene(np.random.default_rng(4), World(), 4)
    for detection, colour in look(draw(scene, 48)):
        (thing,) = [t for t in scene.things if (t.shape, t.colour) == (detection.label, colour)]
        assert detection.box == pytest.approx(thing.box, abs=0.02)


def test_nothing_is_seen_in_nothing():
    assert look(Image.new("RGB", (32, 32), GROUND)) == []


def test_little_is_seen_in_white_noise():
    """A region of any form covers some shape: a tenth of such pictures show one, measured over 200."""
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(40)]
    assert sum(bool(seen(picture)) for picture in pictures) <= 8


@pytest.mark.parametrize("skill", SKILLS)
def test_scenes_fulfil_their_own_prompts_and_no_other_pictures_do(skill):
    generator = np.random.default_rng(1)
    made = [portray(skill, generator, World()) for _ in range(25)]
    prompts = [describe(skill, scene, text) for scene, text in made]
    pictures = [draw(scene, 48) for scene, _ in made]
    assert score(prompts, pictures, ExactDetector()) == {skill: 1.0, "overall": 1.0}
    assert score(prompts, pictures[1:] + pictures[:1], ExactDetector())[skill] < 0.5


def test_what_is_a_colour_is_the_colour_of_the_thing_asked_for():
    detector = ExactDetector()
    picture = draw(Scene((Thing("red", "star", 0.3, 0.3, 0.3), Thing("blue", "cross", 0.7, 0.7, 0.3))), 48)
    (cross,) = detector.find(picture, ["cross"])
    assert detector.colour(picture, cross) == "blue"
    with pytest.raises(ConfigError, match="not found"):
        detector.colour(picture, Detection("cross", (0, 0, 1, 1), 1.0))


def test_a_label_that_is_no_shape_is_refused():
    with pytest.raises(ConfigError, match="bench"):
        ExactDetector().find(Image.new("RGB", (8, 8)), [SHAPES[0], "bench"])


def test_two_things_that_touch_keep_their_colours():
    scene = Scene((Thing("red", "square", 0.3, 0.5, 0.3), Thing("blue", "circle", 0.6, 0.5, 0.3)))
    assert seen(draw(scene, 32)) == [("blue", "circle"), ("red", "square")]
    prompt = describe("color_attr", scene, "")
    assert fault(draw(scene, 32), prompt, ExactDetector()) is None
