"""What is said while a job runs, and what the simulator's wrapper refuses to start."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.errors import ConfigError
from fedgram.flare import simulate
from fedgram.flare.progress import MARK, Progress
from fedgram.records import RoundRecord
from rich.console import Console
from toy import ROOT

JOB = JobConfig(anchors=AnchorPin("0" * 64, ("a",) * 4))


def test_a_round_says_who_counted_who_did_not_and_how_long_it_takes():
    lines: list[str] = []
    progress = Progress(JOB, lines.append)
    record = RoundRecord(
        round=1,
        shares={"a": 0.5, "b": 0.5},
        metrics={},
        payload_bytes={},
        rejected={"c": "c: NaN"},
        missing=("d",),
        mean_update_norm=1.0,
        update_norms={},
        seconds=3.0,
        restarts={},
        samples={},
    )
    progress.rejected("c", "c: NaN")
    progress.round_done(record)
    assert all(line.startswith(MARK) for line in lines)
    assert "c does not count: c: NaN" in lines[0]
    assert "round 1/24" in lines[1]
    assert "s left" in lines[1]
    assert "no reply from d" in lines[1]


def test_what_is_no_job_or_no_workspace(tmp_path: Path):
    with pytest.raises(ConfigError, match="not a job folder"):
        simulate.client_names(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)no local/resources\.json.*cp -r provisioning/simulator/local"):
        simulate.run(ROOT / "jobs" / "geodora", tmp_path, Console(file=io.StringIO()))
    assert simulate.client_names(ROOT / "jobs" / "geodora") == [
        "hosp-image",
        "hosp-text",
        "hosp-genomics",
        "hosp-tabular",
    ]
