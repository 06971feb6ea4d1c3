"""A site's own test samples: figures of models and floors are those of its task, with intervals over groups."""

from __future__ import annotations

import json
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.core.bootstrap import by_group
from fedgram.model.tasks import Task
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation
from fedgram.results.crossfloors import site_floors
from fedgram.results.intervals import figure, share
from fedgram.results.owntest import accuracy, macro_f1, own_test, parts
from fedgram.results.site_results import FLOORS
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import Tensor


def test_own_test_samples_are_counted_as_scikit_learn_does(finished: Path):
    model = fedgram.load(finished, site="red")
    found = own_test(model.site, finished / "fedgram/red/result", site_floors(model.site))
    assert found is not None
    samples, classes = model.site.samples("test"), model.site.task.classes
    truth, named = (
        [s.concept for s in samples],
        [answer.value for answer in model.predict([s.content for s in samples])],
    )
    assert found.confusion["kept"] == confusion_matrix(truth, named, labels=classes).tolist()
    assert found.figures["accuracy"]["kept"].value == pytest.approx(accuracy_score(truth, named))
    assert found.figures["macro-F1"]["kept"].value == pytest.approx(f1_score(truth, named, average="macro"))
    told = json.loads((finished / "server/metrics.json").read_text())
    for name, part in (("home", "test_alone"), ("together", "test"), ("kept", "test_kept")):
        assert found.figures["accuracy"][name].value == pytest.approx(told[part]["red"]["accuracy"])
        assert found.figures["macro-F1"][name].value == pytest.approx(told[part]["red"]["macro_f1"])
    floors = {name: found.figures["accuracy"][name].value for name in FLOORS}
    assert floors == pytest.approx({name: told["test_alone"]["red"][name] for name in FLOORS})
    assert found.groups == len({s.group for s in samples})


def test_figures_of_counts():
    """Hand-worked: class 2 never occurs, and does not count."""
    counts = torch.tensor([[3.0, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert accuracy(counts).item() == 7 / 8
    assert macro_f1(counts).item() == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert share([True, False], ["a", "a"]).interval is None
    found = share([True, True, False, False], ["a", "a", "b", "c"])
    assert found.value == 0.5
    assert found.interval[0] == 0
    assert by_group(torch.ones(2), ["a", "b"]).tolist() == [1, 1]


def random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("task", "output", "targets", "names"),
    [
        (
            Classification(("a", "b", "c")),
            (9, 3),
            torch.arange(9) % 3,
            {"accuracy": "accuracy", "macro-F1": "macro_f1"},
        ),
        (Regression(3.0, 2.0), (9, 1), torch.arange(9.0), {"mae ↓": "mae"}),
        (MultiLabel(("a", "b", "c")), (9, 3), (random((9, 3)).roll(1) > 0).float(), {"macro-F1": "macro_f1"}),
        (Segmentation((0, 1, 2)), (9, 3, 4, 4), (random((9, 8, 8)) > 0).byte(), {"dice": "dice"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_figures_of_all_tasks_are_those_of_a_run(
    task: Task, output: tuple[int, ...], targets: Tensor, names: dict[str, str]
):
    answers = random(output)
    told = task.metrics(answers, targets)
    found = parts(task, answers, targets)
    assert found is not None
    counted, measures = found
    assert len(counted) == 9
    for label, measure in measures.items():
        shown = figure(by_group(counted, [*"aaabbbccc"]), measure)
        assert shown.value == pytest.approx(told[names[label]], abs=1e-6)
        assert shown.interval is not None
        assert shown.interval[0] <= shown.value <= shown.interval[1]
    assert measures.keys() == names.keys()


def test_a_task_of_another_package_has_no_figures():
    assert parts(object(), torch.zeros(1, 1), torch.zeros(1)) is None  # pyrefly: ignore[bad-argument-type]
