"""The GPU's figures in miniature, on the CPU: every row is there, and its numbers are of what it says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from fedgram.config.job import BackboneConfig
from fedgram.model.backbone import load_backbone

from benchmarks import gpu
from benchmarks.step_cost import interleaved

# Of one of the two layers, q, k, v, o, gate, up and down: r Σ d_out in B, r Σ d_in in A, Σ d_out in m.
OUT, IN = 64 + 32 + 32 + 64 + 128 + 128 + 64, 6 * 64 + 128
TRAINED = {
    "peft_lora": 2 * 16 * (OUT + IN),
    "peft_dora": 2 * (16 * (OUT + IN) + OUT),
    "geo_lora": 2 * 16 * OUT,
    "geo_dora": 2 * (16 * OUT + OUT),
}


def test_every_row_is_there_and_sane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new" / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--miniature", "--out", str(out)])
    gpu.main()
    found = json.loads(out.read_text())
    rows = {(row["model"], row["weights"], row["method"]): row for row in found["rows"]}
    assert set(rows) == set(itertools.product(["miniature"], ("bf16", "nf4"), gpu.METHODS))
    assert len(rows) == len(found["rows"])
    assert found["card"]
    for (_, _, method), row in rows.items():
        assert "missing" not in row
        assert row["trained"] == TRAINED[method]
        assert min(value for value in row.values() if not isinstance(value, str)) > 0
        if method in ("peft_lora", "peft_dora"):
            assert row[f"speed_vs_{method}"] == row[f"memory_vs_{method}"] == 1.0
    printed = capsys.readouterr().out
    assert printed.count("geo_dora") == len(rows) / len(gpu.METHODS)
    assert str(out) in printed


def test_all_methods_begin_with_one_model_and_train_it(tmp_path: Path):
    """With B = 0 the four are the same function of the same batch, on one copy of the frozen weights."""
    size, folder = dataclasses.replace(gpu.MINIATURE[0], recompute=False), str(tmp_path)
    gpu.write_random(size, folder, "cpu")
    base = load_backbone(BackboneConfig("random"), {"random": folder}, "bf16")
    frozen = {name: weight.clone() for name, weight in base.named_parameters()}
    addresses = {weight.data_ptr() for weight in base.parameters()}
    losses = {}
    for method in gpu.METHODS:
        site = gpu.open_local(method, base, size, "cpu")
        weights = list(site.model.transformer.named_parameters())
        assert {w.data_ptr() for name, w in weights if "lora_" not in name} == addresses
        (batch,) = site.batches(1, 1)
        losses[method] = site.task_loss(batch).loss.item()
        gpu.run(method, site)
        assert all(w.any() for name, w in weights if "lora_B" in name)
        assert site.task_loss(batch).loss.item() != losses[method]
    assert all(torch.equal(weight, frozen[name]) for name, weight in base.named_parameters())
    assert list(losses.values()) == pytest.approx([losses["peft_lora"]] * 4, rel=0.01)  # in bf16


@pytest.mark.parametrize("failure", ["no bitsandbytes", "a small card"])
def test_a_row_that_cannot_be_measured_says_why(failure: str, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(gpu, "PRECISIONS", ("nf4",))
    if failure == "no bitsandbytes":
        monkeypatch.setattr("fedgram.model.placement.importlib.util.find_spec", lambda name: None)
    else:
        monkeypatch.setattr(gpu, "measure", full)
    rows = gpu.rows_of(gpu.MINIATURE[0], "cpu")
    assert [row["method"] for row in rows] == list(gpu.METHODS)
    why = {"no bitsandbytes": "needs the package bitsandbytes", "a small card": "CUDA out of memory"}[failure]
    assert all(why in row["missing"] for row in rows)
    assert gpu.table(rows, "card").row_count == len(rows)
    (remark,) = gpu.missing(rows)
    assert why in remark


def test_a_method_below_the_goal_is_named():
    rows = [
        {**gpu.label(gpu.CARD[0], "bf16", method), "speed_vs_peft_lora": speed}
        for method, speed in (("peft_dora", 0.5), ("geo_lora", 0.95), ("geo_dora", 0.94))
    ]
    assert gpu.missed(rows) == ["1B, bf16, geo_dora: below 0.95 × PEFT LoRA's tokens/s"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure for ten minutes")
def test_without_a_gpu_the_miniature_is_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--miniature" in capsys.readouterr().err


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 3), (60.0, 5)])
def test_rounds_are_interleaved_and_end_with_the_time(budget: float, rounds: int):
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = interleaved(runs, "cpu", 5, budget)
    assert order == ["a", "b"] * (rounds + 1)  # the first warms up
    assert [len(values) for values in seconds.values()] == [rounds, rounds]
