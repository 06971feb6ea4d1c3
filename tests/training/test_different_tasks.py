"""Sites with different tasks train together, each on real data in a format of its own."""

from __future__ import annotations

from pathlib import Path

import own_data
import pytest
from fedgram.training import contracts
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from toy import Toy

pytestmark = pytest.mark.slow  # real encoders


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return own_data.make(tmp_path_factory.mktemp("own")).with_job(baseline=False)


def run(toy: Toy, folder: Path) -> Outcome:
    return run_federation(toy.sessions(folder / "sites"), toy.job, folder / "server")


@pytest.fixture(scope="module")
def finished(own: Toy, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(own, tmp_path_factory.mktemp("finished"))


def test_every_task_is_learnt(finished: Outcome):
    """Each bound is out of reach of a head that gives all samples the same answer."""
    metrics = {site: evaluation.metrics for site, evaluation in finished.together.items()}
    assert metrics["image"]["dice"] > 0.6  # all foreground: 0.46
    assert metrics["text"]["macro_f1"] > 0.4  # all labels everywhere: 0.35
    assert metrics["genomics"]["accuracy"] > 0.5  # the largest class: 0.25
    assert metrics["tabular"]["r2"] > 0.25  # the mean: 0; a linear model of all columns reaches about 0.45


def test_a_site_sends_the_metrics_of_its_own_task(own: Toy, tmp_path: Path):
    toy = own.with_job(training={"rounds": 1, "local_steps": 1})
    outcome = run(toy, tmp_path)
    common = {"loss", "task_loss", "cka", "seconds"}
    expected = {
        "image": {"dice", "iou"},
        "text": {"macro_f1", "auroc"},
        "genomics": {"accuracy", "macro_f1", "auroc"},
        "tabular": {"mae", "r2"},
    }
    for record in outcome.server.records:
        assert {site: set(metrics) - common for site, metrics in record.metrics.items()} == expected
    for evaluation in outcome.together.values():
        contracts.check_evaluation(evaluation, toy.job)


def test_the_loss_falls_at_every_site(finished: Outcome):
    first, *_, last = finished.server.records
    assert all(last.metrics[site]["task_loss"] < first.metrics[site]["task_loss"] for site in first.metrics)
