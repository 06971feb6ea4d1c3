"""The small Janus that comes with the package, and the pre-training of such models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedgram.config.job import BackboneConfig
from fedgram.demo.shapes import COLOURS, SHAPES
from fedgram.model.unified.janus import Janus, load_janus
from fedgram.model.unified.janus_chat import Ids
from fedgram.pretrained import locate
from fedgram.scoring.geneval.exact import look

from research.pretraining.__main__ import main
from research.pretraining.encoders import k_means, on_sphere
from research.pretraining.language import STAGES, _making_loss, _question, prepare, words
from research.pretraining.pictures import PUBLIC, looks_by_patch, make_pictures
from research.scenes.scenes import Scene, Thing, World, random_scene
from research.scenes.words import SKILLS, TOPICS, ask, portray


@pytest.fixture(scope="module")
def embedded() -> Janus:
    return load_janus(BackboneConfig("janus-shapes"), {})


def answered(janus: Janus, world: World, topic: str, skill: str = "colors", count: int = 24) -> float:
    """Share of right answers about the pictures of a skill: one thing, or two."""
    generator = np.random.default_rng(7)
    scenes = [portray(skill, generator, world)[0] for _ in range(count)]
    asked = [(scene, q) for scene in scenes if (q := ask(scene, topic, generator, world)) is not None]
    pictures = make_pictures([scene for scene, _ in asked], 32).images
    given = janus.understand(janus.see(pictures), [q.text for _, q in asked])
    return float(np.mean([answer == q.answer for answer, (_, q) in zip(given, asked, strict=True)]))


def test_the_embedded_model_knows_half_of_the_names(embedded: Janus):
    """So there is something to learn: the rest of the colours and shapes it sees, but cannot name."""
    new = World(colours=("purple", "orange", "pink", "white"), shapes=("star", "diamond", "cross"))
    for topic in ("colour", "shape"):
        assert answered(embedded, PUBLIC, topic) >= 0.75
        assert answered(embedded, new, topic) <= 0.25


@pytest.mark.parametrize("topic", TOPICS)
def test_the_embedded_model_answers_questions_of_every_topic_about_what_it_knows(embedded: Janus, topic: str):
    """Chance is a quarter where something is, a half for yes or no."""
    skill = "counting" if topic == "count" else "two_object"
    assert answered(embedded, PUBLIC, topic, skill, count=60) >= 0.75


def test_the_embedded_model_makes_what_it_knows(embedded: Janus):
    pictures = embedded.generate(["a photo of a red square"] * 8, torch.Generator().manual_seed(0))
    found = [[(colour, thing.label) for thing, colour in look(picture)] for picture in pictures]
    assert found.count([("red", "square")]) >= 4


def test_its_tokeniser_gives_pictures_back(embedded: Janus):
    generator = np.random.default_rng(3)
    scenes = [random_scene(generator, World(), 1) for _ in range(30)]
    back = embedded.pictures(embedded.targets(make_pictures(scenes, 32).images))
    told = [[(colour, thing.label) for thing, colour in look(picture)] for picture in back]
    right = [t == [(s.things[0].colour, s.things[0].shape)] for t, s in zip(told, scenes, strict=True)]
    assert np.mean(right) >= 0.7


def test_every_word_of_the_scenes_is_one_token(embedded: Janus):
    generator = np.random.default_rng(1)
    texts = [portray(skill, generator, World())[1] for skill in SKILLS for _ in range(5)]
    for topic in TOPICS:
        asked = [ask(random_scene(generator, World()), topic, generator, World()) for _ in range(10)]
        texts += [f"{q.text} {q.answer}" for q in asked if q is not None]
    for text in texts:
        pieces = embedded.processor.tokenizer.tokenize(text)
        assert not [piece for piece in pieces if piece.startswith("##") or piece == "[UNK]"], text
    assert len(words()) == len(set(words()))


def test_the_script_makes_a_checkpoint_that_loads(tmp_path: Path):
    before = torch.get_rng_state()
    short = [replace(stage, steps=max(1, stage.asks_every)) for stage in STAGES]
    main(tmp_path, vision=1, tokeniser=1, stages=short, pool=120)
    torch.set_rng_state(before)
    made = load_janus(BackboneConfig("made"), {"made": str(tmp_path)}, "bf16")
    assert made.model.dtype == torch.bfloat16
    assert made.model.generation_config.guidance_scale == 1.5
    codes = made.model.model.vqmodel.quantize.embedding.weight.float()
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(len(codes)), atol=0.01, rtol=0)


def test_the_last_stage_begins_with_a_checkpoint_and_leaves_its_encoders(embedded: Janus, tmp_path: Path):
    before = torch.get_rng_state()
    folder = Path(locate("janus-shapes"))
    main(tmp_path, folder, stages=[replace(stage, steps=8) for stage in STAGES], pool=60)
    torch.set_rng_state(before)
    made = load_janus(BackboneConfig("made"), {"made": str(tmp_path)}).model.state_dict()
    same = {name for name, value in embedded.model.state_dict().items() if torch.equal(value, made[name])}
    frozen = {name for name in made if name.startswith(("model.vision_model.", "model.vqmodel."))}
    assert frozen <= same
    assert len(made) - len(same) > 30


def test_every_question_is_about_its_scene():
    generator = np.random.default_rng(0)
    scenes = [random_scene(generator, PUBLIC) for _ in range(20)]
    found = [_question(scenes, ("count", "position"), generator) for _ in range(40)]
    assert {asked.topic for _, asked in found} == {"count", "position"}
    assert all(len(scenes[row].things) == 2 for row, asked in found if asked.topic == "position")


@torch.no_grad()
def test_a_share_of_the_pictures_is_learnt_without_words(embedded: Janus):
    """Two of three from their prompts, the last from none and of the whole world; by hand, one after the other."""
    lessons = prepare(embedded, 32, 6, 0, SKILLS)
    rows = torch.tensor([4, 1, 2])
    spoken, said = (embedded.chat.prompts([lessons.told[i] for i in part]) for part in ((4, 1), (2,)))
    told = embedded.codes_loss(spoken, lessons.told_codes[[4, 1]])
    unsaid = Ids(embedded.chat.without_words(said.values), said.mask)
    silent = embedded.codes_loss(unsaid, lessons.silent_codes[[2]])
    found = _making_loss(embedded, lessons, rows, 1 / 3)
    torch.testing.assert_close(found, (2 * told + silent) / 3, atol=1e-4, rtol=0)


def test_k_means_finds_what_is_there():
    torch.manual_seed(0)
    near = [torch.tensor(c) + 0.01 * torch.randn(20, 2) for c in ([1.0, 0.0], [0.0, 1.0])]
    ground, *centres = k_means(torch.cat([torch.zeros(50, 2), *near]), 3)
    assert torch.equal(ground, torch.zeros(2))
    found = torch.stack(sorted(centres, key=lambda c: c[0].item()))
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=0.02, rtol=0)


def test_codes_lie_on_the_sphere_and_keep_who_is_near():
    torch.manual_seed(0)
    points = torch.randn(5, 12).repeat_interleave(2, 0) + 1e-3 * torch.randn(10, 12)
    codes = on_sphere(points, 4)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(10))
    likeness = (codes @ codes.T).fill_diagonal_(-1)
    assert torch.equal(likeness.argmax(1), torch.arange(10) ^ 1)


def test_patches_are_named_by_what_they_show():
    scene = Scene((Thing("blue", "square", 0.25, 0.25, 0.3),))
    colours, shapes = looks_by_patch([scene], 8, 4)
    assert colours.tolist() == [[list(COLOURS).index("blue") + 1, 0, 0, 0]]
    assert shapes.tolist() == [[SHAPES.index("square") + 1, 0, 0, 0]]
