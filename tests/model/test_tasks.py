"""Every task by hand: targets, loss and metrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fedgram.config.site import SiteConfig
from fedgram.errors import ConfigError, DataError, FedgramError
from fedgram.model.tasks import make_task, metrics
from fedgram.model.tasks.base import Task, mixed, pooled_head
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import PatchHead, Segmentation
from fedgram.records import Sample, Target
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

SITE = SiteConfig(modality="text", data="", tokenizer="", anchors="")


class NoTokenizer:
    identity, width = "", 1

    def __call__(self, contents):
        raise AssertionError


class Quarter(NoTokenizer):
    """Sees a quarter of the pixels."""

    def place(self, mask: np.ndarray) -> np.ndarray:
        return mask[::2, ::2]


def samples(*targets: Target) -> list[Sample]:
    return [
        Sample(
            id=str(i), concept="", group=str(i), content=None, target=t, split="", source=f"rows.csv, row {i + 1}"
        )
        for i, t in enumerate(targets)
    ]


def make(task: str, *targets: Target, balanced: bool = False) -> Task:
    weights = "balanced" if balanced else "equal"
    return make_task(dataclasses.replace(SITE, task=task, class_weights=weights), samples(*targets))


def test_classification():
    task = make("classification", "b", "a", "b", "c")
    targets = task.targets(samples("a", "b", "c", "a"), NoTokenizer())
    assert targets.tolist() == [0, 1, 2, 0]
    output = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 9.0, 0], [9.0, 0, 0]])
    found = task.metrics(output, targets)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    # a: no fault; b: one of three others has its score; c: all have the same score
    assert found["auroc"] == pytest.approx((1 + 5 / 6 + 1 / 2) / 3)
    assert task.loss(torch.zeros(4, 3), targets).item() == pytest.approx(math.log(3))


def test_the_concept_is_the_class_where_the_data_have_no_other():
    old = [
        Sample(id="1", concept="cat", group="g", content=None),
        Sample(id="2", concept="dog", group="h", content=None),
    ]
    assert make_task(SITE, old).targets(old, NoTokenizer()).tolist() == [0, 1]


def test_balanced_classes_weigh_the_same():
    task = make("classification", "a", "a", "a", "b", balanced=True)
    output, targets = torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])
    output[3] = torch.tensor([3.0, 0.0])  # b is wrong
    right, wrong = math.log(2), math.log1p(math.exp(3.0))
    assert task.loss(output, targets).item() == pytest.approx((right + wrong) / 2)
    assert make("classification", "a", "b").loss(output, targets).item() == pytest.approx((3 * right + wrong) / 4)


def test_multilabel():
    task = make("multilabel", ("a",), ("a", "b"), ())
    targets = task.targets(samples(("b",), (), ("a", "b"), ("a",)), NoTokenizer())
    assert targets.tolist() == [[0, 1], [0, 0], [1, 1], [1, 0]]
    output = torch.tensor([[-1.0, 2.0], [-2.0, 1.0], [3.0, 3.0], [1.0, -1.0]])
    found = task.metrics(output, targets)
    assert found == pytest.approx({"macro_f1": (1 + 0.8) / 2, "auroc": 1.0})
    assert task.loss(torch.zeros(4, 2), targets).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("targets", "output", "f1"),
    [
        ([[1], [0], [0], [0]], [[1], [1], [-1], [-1]], 2 / 3),  # a site with one label
        (
            [[1, 0], [0, 0], [0, 0], [0, 0]],
            [[1, -1], [1, -1], [-1, -1], [-1, -1]],
            2 / 3,
        ),  # of two labels one occurs
        ([[1, 0], [0, 1], [0, 0]], [[1, -1], [1, 1], [-1, 1]], 2 / 3),
        ([[1, 0], [0, 0]], [[-1, -1], [-1, 1]], 0.0),
    ],
)
def test_f1_of_labels_is_of_having_them_however_many_occur(targets, output, f1):
    """Not having a label is no class of its own, which would count too, and mostly be right."""
    task = MultiLabel(("a", "b")[: len(targets[0])])
    found = task.metrics(torch.tensor(output, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
    assert found["macro_f1"] == pytest.approx(f1)


@pytest.mark.parametrize("levels", [3, 1000])
def test_auroc_is_that_of_scikit_learn(levels):
    """With few levels of the scores most pairs are ties."""
    draws = np.random.default_rng(levels)
    truth, scores = draws.random((50, 3)) < 0.3, draws.integers(levels, size=(50, 3)).astype(np.float32)
    truth[:, 1] = True  # no curve
    expected = np.mean([roc_auc_score(truth[:, c], scores[:, c]) for c in (0, 2)])
    assert metrics.auroc(truth, scores) == pytest.approx(expected)


def test_auroc_needs_a_class_with_a_curve():
    assert metrics.auroc(np.ones((4, 2), dtype=bool), np.zeros((4, 2))) is None
    assert metrics.auroc(np.zeros((0, 2), dtype=bool), np.zeros((0, 2))) is None


def test_a_rare_label_counts_as_much_as_its_absence():
    task = make("multilabel", ("a",), (), (), (), balanced=True)
    output, targets = torch.full((4, 1), -2.0), torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    missed, fine = math.log1p(math.exp(2.0)), math.log1p(math.exp(-2.0))
    assert task.loss(output, targets).item() == pytest.approx((3 * missed + 3 * fine) / 4)


def test_regression():
    task = make("regression", 10.0, 20.0, 30.0)
    assert isinstance(task, Regression)
    targets = task.targets(samples(10.0, 30.0), NoTokenizer())
    output = (torch.tensor([[12.0], [26.0]]) - task.mean) / task.std
    assert task.metrics(output, targets) == pytest.approx({"mae": 3.0, "r2": 1 - (4 + 16) / 200})
    assert task.loss(output, targets).item() == pytest.approx((4 + 16) / 2 / task.std**2, rel=1e-5)
    assert task.metrics(output[:1], targets[:1]) == pytest.approx({"mae": 2.0})  # R² of one sample is nothing


@pytest.mark.parametrize("numbers", [(1.6e9, 1.6e9 + 60, 1.6e9 + 90), (1e40, 2e40), (1e-60, 2e-60)])
def test_numbers_that_single_precision_cannot_tell_apart_are_refused(numbers: tuple[float, ...]):
    """Their R² was negative for a perfect model: float32 has every 128th second of today's Unix times."""
    with pytest.raises(DataError, match="rounds their differences away"):
        make("regression", *numbers)
    near = tuple(number - 1.6e9 for number in (1.6e9, 1.6e9 + 60, 1.6e9 + 90))
    for told in (near, (2.4e6, 2.4e6 + 100), (2020.0, 2021.0), (1e-6, 2e-6)):
        make("regression", *told)


def test_segmentation_classes_are_the_pixel_values(tmp_path: Path):
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    task = make("segmentation", tmp_path / "a.png", balanced=True)
    assert isinstance(task, Segmentation)
    assert (task.classes, task.weights) == ((0, 255), (1.0, 1.0))
    targets = task.targets(samples(tmp_path / "a.png"), Quarter())
    assert targets.shape == (1, 4, 4)
    assert targets[0].tolist() == [[0, 0, 1, 1]] * 4
    Image.fromarray(mask // 2).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: class 127 has no training mask"):
        task.targets(samples(tmp_path / "b.png"), Quarter())
    with pytest.raises(ConfigError, match="keeps no map"):
        task.targets(samples(tmp_path / "a.png"), NoTokenizer())


def test_the_head_puts_every_token_in_its_place():
    """One patch token differs; so does exactly its piece of the mask, whether or not a class token comes first."""
    for before in (0, 1):
        head = PatchHead(width=6, length=9 + before, classes=2, generator=torch.Generator().manual_seed(0))
        hidden = torch.zeros(1, 9 + before, 6)
        hidden[0, before + 5] = 1.0  # second row, third column
        output = head(hidden, torch.ones(1, 9 + before).bool())
        assert output.shape == (1, 2, 12, 12)
        places = output[0].abs().sum(0).nonzero()
        assert places.min(0).values.tolist() == [4, 8]
        assert places.max(0).values.tolist() == [7, 11]
    with pytest.raises(ConfigError, match="6 tokens an image"):
        PatchHead(6, 6, 2, torch.Generator())


def test_dice_and_iou_are_f1_and_jaccard_of_the_pixels():
    task = Segmentation((0, 1, 2))
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, 3, (40, 8, 8), generator=generator, dtype=torch.uint8)
    output = torch.randn(40, 3, 8, 8, generator=generator)
    a, b = truth.flatten().numpy(), output.argmax(1).flatten().numpy()
    expected = {
        "dice": f1_score(a, b, average="macro", labels=[1, 2]),
        "iou": jaccard_score(a, b, average="macro", labels=[1, 2]),
    }
    assert task.metrics(output, truth) == pytest.approx(expected)
    perfect = torch.nn.functional.one_hot(truth.long(), 3).permute(0, 3, 1, 2).float()
    assert task.metrics(perfect, truth) == {"dice": 1.0, "iou": 1.0}
    assert task.metrics(perfect[:1] * 0, torch.zeros(1, 8, 8, dtype=torch.uint8)) == {}  # nothing but background


def test_numbers_that_are_not_defined_are_left_out():
    task = make("classification", "a", "b")
    assert set(task.metrics(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))) == {"accuracy", "macro_f1"}
    labels = make("multilabel", ("a",), ())
    assert labels.metrics(torch.tensor([[-1.0]]), torch.tensor([[0.0]])) == {}


@pytest.mark.parametrize(
    ("task", "targets", "found"),
    [
        (make("regression", 10.0, 20.0), torch.tensor([10.0, 20.0]), set()),
        (make("classification", "a", "b"), torch.tensor([0, 1]), {"accuracy", "macro_f1"}),
        (make("multilabel", ("a",), ("b",)), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), {"macro_f1"}),
    ],
)
def test_a_model_that_has_diverged_has_no_error_and_no_curve(task: Task, targets: torch.Tensor, found: set[str]):
    """One NaN among the answers is enough; the metrics themselves would raise, or be NaN."""
    output = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    assert set(task.metrics(output, targets)) == found


def test_direction_and_main_metric():
    assert metrics.main_metric(["auroc", "macro_f1", "accuracy", "loss"]) == "accuracy"
    assert metrics.main_metric(["r2", "mae"]) == "mae"
    assert metrics.main_metric(["iou", "dice"]) == "dice"
    assert metrics.main_metric(["loss", "cka"]) is None
    assert metrics.gain("mae", before=3.0, after=2.0) == 1.0
    assert metrics.gain("accuracy", before=0.5, after=0.75) == 0.25


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        ("classification", ("a", "a"), "1 class"),
        ("multilabel", ((), ()), "0 classes"),
        ("regression", (2.0, 2.0), "the same number"),
        ("regression", ("a", "b"), r"rows\.csv, row 1: no number"),
        ("segmentation", ("a", "b"), r"rows\.csv, row 1: no mask"),
    ],
)
def test_targets_that_nothing_can_be_learnt_from(task: str, targets: tuple, message: str):
    with pytest.raises(FedgramError, match=message):
        make(task, *targets)


def test_a_label_without_training_sample_is_named_by_row():
    task = make("classification", "a", "b")
    with pytest.raises(DataError, match=r"rows\.csv, row 1: label 'd' has no training sample"):
        task.targets(samples("d"), NoTokenizer())


def test_a_photograph_is_no_mask(tmp_path: Path):
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="looks like a picture"):
        make("segmentation", tmp_path / "a.png")


def test_a_pooled_head_averages_the_tokens_that_are_there():
    head = pooled_head(3, 2, torch.Generator().manual_seed(0))
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    expected = torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]) @ head.weight.T + head.bias
    torch.testing.assert_close(head(hidden, mask), expected)


# --- averages of answers


def test_classes_are_averaged_by_probability():
    task = Classification(("a", "b"))
    first, second = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])
    found = task.mix([first.log() + 3, second.log() - 7], [0.25, 0.75])  # logits are given up to a constant
    torch.testing.assert_close(found.exp(), torch.tensor([[0.375, 0.625]]))
    assert task.predictions(found)[0].scores["b"] == pytest.approx(0.625)
    assert task.loss(found, torch.tensor([1])).item() == pytest.approx(-math.log(0.625))


def test_labels_are_averaged_by_probability():
    task, p = MultiLabel(("a", "b")), torch.tensor([[0.9, 0.5]])
    found = task.mix([p.logit(), torch.tensor([[-200.0, 200.0]])], [0.5, 0.5])  # and without overflow
    torch.testing.assert_close(found.sigmoid(), torch.tensor([[0.45, 0.75]]))


def test_numbers_are_averaged():
    task = Regression(mean=10.0, std=2.0)
    found = task.mix([torch.tensor([[1.0]]), torch.tensor([[-1.0]])], [0.75, 0.25])
    assert task.predictions(found)[0].value == 11.0


def test_pixels_are_averaged_by_probability():
    task = Segmentation((0, 255))
    p = torch.rand(2, 1, 3, 4)
    q = torch.rand(2, 1, 3, 4)
    outputs = [torch.cat([1 - x, x], dim=1).log() for x in (p, q)]
    found = task.mix(outputs, [0.5, 0.5]).exp()
    torch.testing.assert_close(found[:, 1:], (p + q) / 2)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 3, 4))


@pytest.mark.parametrize("task", [Classification(("a", "b")), MultiLabel(("a", "b")), Regression(0, 1)], ids=str)
def test_a_head_averaged_with_itself_is_itself(task: Task):
    output = torch.randn(5, 1 if isinstance(task, Regression) else 2)
    targets = torch.rand(5) if isinstance(task, Regression) else torch.tensor([0, 1, 0, 1, 1])
    targets = torch.eye(2)[targets] if isinstance(task, MultiLabel) else targets
    torch.testing.assert_close(
        task.loss(task.mix([output, output], [0.25, 0.75]), targets), task.loss(output, targets)
    )


def test_a_head_of_weight_0_has_no_part():
    nothing = torch.full((1, 2), float("nan"))
    answers = {"home": torch.tensor([[1.0, 2.0]]), "together": nothing}
    assert mixed(Classification(("a", "b")), answers, {"home": 1.0, "together": 0.0}) is answers["home"]
