"""Sites that promise differential privacy, in plain and in masked jobs, on real processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fedgram.config.privacy import PrivacyConfig
from masked_toy import NAMES, four
from test_simulator import assert_same_model, plain
from toy import Toy

from federation.federation import running
from federation.test_masked import FOUR

pytestmark = pytest.mark.federation


@pytest.mark.parametrize("masked", [False, True])
def test_the_model_is_that_of_the_plain_loop_and_every_site_keeps_its_account(
    toy: Toy, tmp_path: Path, masked: bool
):
    run = four(toy, masked=masked, training={"rounds": 2, "local_steps": 2}, baseline=False)
    promised = PrivacyConfig(epsilon=8.0, delta=1e-3)
    run = replace(
        run,
        sites={
            name: replace(own, privacy=promised, secret=4 * str(own.secret)) for name, own in run.sites.items()
        },
    )
    with running(run, tmp_path, FOUR) as federation:
        job = federation.submit(tmp_path / "job")
        assert federation.wait(job, 900) == "FINISHED:COMPLETED", federation.output(federation.server)[-3000:]
        results = federation.download(job, tmp_path / "download") / "fedgram"
    assert_same_model(results, plain(run, tmp_path / "plain"))
    facts = json.loads((results / "metrics.json").read_text())
    assert facts["privacy"] == {name: {"epsilon": 8.0, "delta": 1e-3} for name in NAMES}
    for name in NAMES:
        booked = json.loads((federation.kit(name) / f"fedgram/{name}/privacy.json").read_text())["jobs"]
        assert [len(job["rounds"]) for job in booked.values()] == [2]
        sent = (federation.kit(name) / f"fedgram/{name}/sent.jsonl").read_text()
        assert ('"delta_B/' in sent) != masked
        assert "accuracy" not in sent
