"""The cost scripts, each on the smallest case that shows its figures to be what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import Toy

from benchmarks import geometry_cost, round_overhead, server_memory, step_cost, token_cache, wire_bytes


def test_a_step_is_compared_with_stock_adapters(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_cost, "LAYERS", {64: 1})
    found = step_cost.times(64, 128, "cpu", rounds=1)
    assert found.keys() == {"time_vs_peft_lora", "time_vs_peft_dora", "seconds"}
    assert min(found.values()) > 0
    assert step_cost.peak_bytes("geo_dora", 64, 128, "cpu") >= 0


def test_a_reply_is_hardly_more_than_its_tensors():
    found = wire_bytes.measure(wire_bytes.BACKBONES["MiniLM, 3 layers"])
    assert 1 < found["over B in bf16 + G"] < 1.1
    assert found["sent"] < found["FedAvg-LoRA, A trained"] < found["full model"]
    assert 2**-10 < wire_bytes.rounding() < 2**-8  # bf16 has 8 bits of precision


def test_the_server_s_memory_is_that_of_a_round_with_every_site():
    shapes = {"layer": (2**16, 16, 8)}
    assert server_memory.shapes_of("Llama-3.1-8B")["layers.0.self_attn.k_proj"] == (1024, 16, 4096)
    assert server_memory.round_of(2, shapes, anchors=4, rule="mean")["bytes"] > 2 * 8 * 2**20  # of sums in 64 bits


def test_the_demo_s_training_anchors_are_halved(tmp_path: Path):
    job, sites = geometry_cost.federation(tmp_path)
    assert job.heldout is not None
    assert job.anchors.sha256 != job.heldout.sha256
    assert job.anchors.slots == job.heldout.slots == 12
    assert {site.anchors for site in sites.values()} == {str(tmp_path / "trains")}


def test_the_cost_of_the_geometry_loss_is_a_ratio_to_training_without(toy: Toy):
    site = toy.open("green")
    jobs = {every: geometry_cost.variant(site.job, every, 0) for every in (0, 1)}
    assert [job.training.geometry_weight > 0 for job in jobs.values()] == [False, True]
    found = geometry_cost.cost(site, jobs, steps=3)
    assert found[0] == 1.0
    assert found[1] > 0


def test_tokens_are_read_back(tmp_path: Path):
    (file,) = (path for path in token_cache.SITE_FILES if path.stem == "hosp-tabular")
    found = token_cache.measure(file, repeats=1)
    assert found["samples"] > 0
    assert min(found[name] for name in ("tokenising", "from the cache", "times faster")) > 0


def test_the_rounds_are_summed_up_without_the_first(tmp_path: Path):
    """By hand: 1, 3 and 2 seconds, of which the slower site trained 0.5, 0.7 and 0.6."""

    def record(seconds: float, slower: float) -> dict:
        return {"seconds": seconds, "metrics": {"a": {"seconds": 0.1}, "b": {"seconds": slower}}}

    rounds = [record(9.0, 9.0), record(1.0, 0.5), record(3.0, 0.7), record(2.0, 0.6)]
    (tmp_path / "metrics.json").write_text(json.dumps({"rounds": rounds}))
    found = round_overhead.summary(tmp_path)
    assert [found[name] for name in ("rounds", "median", "smallest", "largest")] == [3, 2.0, 1.0, 3.0]
    assert found["of which one step, median of the slowest site"] == 0.6
