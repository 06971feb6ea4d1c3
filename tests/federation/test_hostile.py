"""One site attacks FLARE's own processes, differently in every round: the job ends as it would without her."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_simulator import assert_same_model, plain
from toy import Toy

from federation import hostile
from federation.federation import HONEST, provision

pytestmark = pytest.mark.federation

SAID = (  # in the server's log, of what has no place in the report
    "150 bytes for server_command/abort",
    "a message for cellnet.channel/bye",
    "a message for _net_manager/speed",
    "event '_fatal_system_error'",
    "a metric",
    "more than 1000 events",
    "more than 16 transfers at once",
    "a request for _net_manager/speed",
    "a request for server_parent_listener/update_run_status",
    "a message for blue",
)


def test_one_hostile_site_ends_nothing_and_changes_nothing(toy: Toy, tmp_path: Path):
    run = toy.with_job(
        training={"rounds": 1 + len(hostile.FAULTS), "local_steps": 1},
        aggregation={"deadline_seconds": 20, "setup_seconds": 120},
        baseline=False,
    )
    federation = provision(run, tmp_path, {**HONEST, "mallory": ("hostile.HostileExecutor", "red")})
    try:
        federation.start()
        parent = federation.pids(federation.server, "parent")
        job = federation.submit(tmp_path / "job")
        status = federation.wait(job, seconds=600)
        log = federation.output(federation.server)
        assert status == "FINISHED:COMPLETED", log[-3000:]
        assert federation.pids(federation.server, "parent") == parent
        workspace = federation.download(job, tmp_path / "download")
    finally:
        federation.stop()
    records = json.loads((workspace / "fedgram/metrics.json").read_text())["rounds"]
    assert "mallory" not in records[0]["shares"]  # she joins when the first round has shown who she is
    for record, (fault, (_, reason)) in zip(records[1:], hostile.FAULTS.items(), strict=True):
        assert set(record["shares"]) == set(run.sites), fault
        if reason is None:
            assert record["missing"] == ["mallory"], fault
        else:
            assert record["rejected"]["mallory"].startswith(f"mallory: {reason}"), fault
    assert_same_model(workspace / "fedgram", plain(run, tmp_path / "plain"))
    assert [text for text in SAID if f"mallory: dropped what it sent: {text}" not in log] == []
    for site in run.sites:
        events = EventAccumulator(str(workspace / "tb_events" / site))
        events.Reload()
        assert [e.step for e in events.Scalars("cka")] == [*range(1, len(records) + 1)], site
