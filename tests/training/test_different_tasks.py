"""Sites with different tasks train together, each on real data in a format of its own."""

from __future__ import annotations

import own_data
import pytest
from fedgram.training import contracts
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from toy import Toy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Outcome]:
    folder = tmp_path_factory.mktemp("own")
    toy = own_data.make(folder).with_job(baseline=False)
    return toy, run_federation(toy.sessions(folder / "sites"), toy.job, folder / "server")


def test_every_task_is_learnt(finished: tuple[Toy, Outcome]):
    """Each bound is out of reach of a head that gives all samples the same answer."""
    metrics = {site: evaluation.metrics for site, evaluation in finished[1].together.items()}
    assert metrics["image"]["dice"] > 0.6  # all foreground: 0.46
    assert metrics["text"]["macro_f1"] > 0.4  # all labels everywhere: 0.35
    assert metrics["genomics"]["accuracy"] > 0.5  # the largest class: 0.25
    assert metrics["tabular"]["r2"] > 0.25  # the mean: 0; a linear model of all columns reaches about 0.45


def test_a_site_sends_the_metrics_of_its_own_task(finished: tuple[Toy, Outcome]):
    toy, outcome = finished
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


def test_the_loss_falls_at_every_site(finished: tuple[Toy, Outcome]):
    first, *_, last = finished[1].server.records
    assert all(last.metrics[site]["task_loss"] < first.metrics[site]["task_loss"] for site in first.metrics)
