"""A site of recordings trains beside one of signals, on anchors built from folders of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fedgram.anchors.build import build
from fedgram.checks import data as datacheck
from fedgram.config.strict import to_dict
from fedgram.training.loop import run_federation
from site_data import write_sound
from toy import CONCEPTS, Toy, signals, write_site_file


@pytest.mark.slow
def test_one_round(toy: Toy, tmp_path: Path):
    public, calls = tmp_path / "public", tmp_path / "calls"
    for number, concept in enumerate(CONCEPTS):
        pitch = 200 * 2**number
        for i in range(10):
            write_sound(calls / concept / f"{i}.wav", pitch + 5 * i, 0.1, 8000)
        (public / "red" / concept).mkdir(parents=True)
        for i in range(3):
            write_sound(public / "audio" / concept / f"{i}.flac", pitch + 7 + 3 * i, 0.1)
            row = signals("red", [concept], seed=i + 1)
            np.savetxt(public / "red" / concept / f"{i}.csv", row, delimiter=",")
    terms = {"licence": "CC0-1.0", "source": "made in the test"}
    anchors = build(public, tmp_path / "anchors", name="a", terms=terms, declared=["toy_modalities:RED"])
    red = replace(toy.sites["red"], anchors=str(anchors.folder), heldout=None)
    audio = replace(red, modality="audio", data=str(calls), tokenizer="log-mel")
    write_site_file(tmp_path / "audio.toml", audio)
    found = datacheck.check(tmp_path / "audio.toml")
    assert not found.failed
    assert any("40 of 40 recordings have fewer" in finding.text for finding in found.findings)
    job = toy.with_job(
        anchors=to_dict(anchors.pin()), heldout=None, training={"rounds": 1, "local_steps": 2}, baseline=False
    ).job
    run = Toy(toy.root, job, {"red": red, "audio": audio})
    outcome = run_federation(run.sessions(tmp_path / "sites"), run.job, tmp_path / "server")
    assert set(outcome.server.records[-1].metrics) == {"red", "audio"}
    assert np.isfinite(outcome.together["audio"].metrics["accuracy"])
