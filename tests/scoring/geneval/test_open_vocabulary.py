"""Open-vocabulary detectors, on small checkpoints of three families in the published layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from detector_models import write_clip, write_grounding_dino, write_owl
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import BackboneError, ConfigError
from fedgram.scoring.geneval.open_vocabulary import COLOURS, OpenVocabularyDetector, overlap, without_doubles
from fedgram.scoring.geneval.rules import Detection, score
from PIL import Image

WRITERS = {
    "owlvit": lambda folder: write_owl(folder, 1),
    "owlv2": lambda folder: write_owl(folder, 2),
    "grounding-dino": write_grounding_dino,
}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module", params=WRITERS)
def folder(request, tmp_path_factory):
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param))


def test_every_family_finds_and_is_judged_by_the_rules(folder, clip):
    detector = OpenVocabularyDetector(str(folder), str(clip), threshold=0.0)
    found = detector.find(PICTURE, ["bench", "cup"])
    assert {d.label for d in found} == {"bench", "cup"}
    assert all(0 < d.score <= 1 for d in found)
    prompts = [Prompt("a photo of a bench", "single_object", (Wanted("bench", 1),))]
    assert score(prompts, [PICTURE], detector) == {"single_object": 1.0, "overall": 1.0}


def test_labels_do_not_disturb_each_other(folder, clip):
    detector = OpenVocabularyDetector(str(folder), str(clip), threshold=0.0)
    alone = [d for label in ("cup", "bench") for d in detector.find(PICTURE, [label])]
    assert alone == detector.find(PICTURE, ["cup", "bench"])


def test_the_threshold_holds(folder, clip):
    scores = sorted(
        d.score for d in OpenVocabularyDetector(str(folder), str(clip), threshold=0.0).find(PICTURE, ["cup"])
    )
    middle = scores[len(scores) // 2]
    stricter = OpenVocabularyDetector(str(folder), str(clip), threshold=middle).find(PICTURE, ["cup"])
    assert sorted(d.score for d in stricter) == [s for s in scores if s > middle]


def test_no_thing_is_found_twice():
    """The second overlaps the first by 8 / 12 and goes; the third overlaps the second alone, and stays."""
    first, second = Detection("cup", (0, 0, 10, 1), 0.7), Detection("cup", (2, 0, 12, 1), 0.6)
    third, far = Detection("cup", (4, 0, 14, 1), 0.5), Detection("cup", (20, 0, 30, 1), 0.9)
    assert without_doubles([third, second, first, far]) == [far, first, third]


@pytest.mark.parametrize(("version", "sides"), [(1, [40, 30, 40, 30]), (2, [40, 40, 40, 40])])
def test_scores_and_boxes_are_those_of_the_model(tmp_path, clip, version, sides):
    """The best box, straight from the logits. OWLv2 pads a picture to a square, OWL-ViT stretches it."""
    folder = write_owl(tmp_path, version)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    given = transformers.AutoProcessor.from_pretrained(folder)(
        text=[["a photo of an apple"]], images=PICTURE, return_tensors="pt"
    )
    with torch.no_grad():
        output = model(**given)
    best = output.logits[0, :, 0].argmax()
    x, y, width, height = output.pred_boxes[0, best].tolist()
    first = OpenVocabularyDetector(str(folder), str(clip), threshold=0.0).find(PICTURE, ["apple"])[0]
    assert first.score == pytest.approx(output.logits[0, best, 0].sigmoid().item())
    corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    assert np.array(first.box) == pytest.approx(corners * sides, abs=1e-3)


def test_the_colour_is_that_of_the_nearest_prompts(folder, clip):
    detector = OpenVocabularyDetector(str(folder), str(clip), threshold=0.0)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.AutoProcessor.from_pretrained(clip)
    nearness = []
    for colour in COLOURS:
        mean = torch.zeros(16)
        for text in (
            f"a photo of a {colour} cup",
            f"a photo of a {colour}-colored cup",
            f"a photo of a {colour} object",
        ):
            given = processor(text=[text], images=PICTURE.crop((5, 6, 21, 26)), return_tensors="pt")
            with torch.no_grad():
                output = model(**given)
            mean += output.text_embeds[0]
        nearness.append(torch.cosine_similarity(mean, output.image_embeds[0], dim=0))
    expected = COLOURS[int(torch.stack(nearness).argmax())]
    assert detector.colour(PICTURE, Detection("cup", (5.4, 6.0, 20.6, 26.2), 1.0)) == expected


@pytest.mark.parametrize("box", [(-5, -5, 80, 80), (39.9, 29.9, 39.9, 29.9), (60, 60, 70, 70)])
def test_boxes_beyond_the_picture_have_a_colour(folder, clip, box):
    detector = OpenVocabularyDetector(str(folder), str(clip))
    assert detector.colour(PICTURE, Detection("cup", box, 1.0)) in COLOURS


def test_overlap_worked_by_hand():
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_what_cannot_be_loaded_is_named(tmp_path, clip):
    with pytest.raises(BackboneError, match="detector"):
        OpenVocabularyDetector(str(tmp_path), str(clip))
    with pytest.raises(BackboneError, match="colours"):
        OpenVocabularyDetector(str(write_owl(tmp_path / "owl", 2)), str(tmp_path))


@pytest.mark.parametrize("wrong", [{"threshold": 1.0}, {"counting_threshold": -0.1}])
def test_a_threshold_is_a_share(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OpenVocabularyDetector("a", "b", **wrong)
