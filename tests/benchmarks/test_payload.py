"""Bytes of a round: by hand, against the tensors of a real round, and the published sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fedgram.training.loop import run_federation
from toy import Toy

from benchmarks import payload
from benchmarks.payload import MODELS, RANKS, WAYS, Payload


def test_two_layers_by_hand():
    """d_out 10 and 20, d_in 7 and 3: B has 30 r numbers, A 10 r, m 30; 2 bytes up and 4 down, m 4 both ways."""
    shapes = {"a": (10, 1, 7), "b": (20, 1, 3)}
    assert payload.low_rank(shapes, 4) == Payload(240, 480)
    assert payload.lora_with_a(shapes, 4) == Payload(320, 640)
    assert payload.low_rank_with_m(shapes, 4) == Payload(360, 600)
    assert payload.full(1000) == Payload(2000, 2000)
    assert payload.full(1000).both == 4000


@pytest.mark.parametrize(
    ("way", "method", "adapter"),
    [
        ("LoRA, A and B", "fedit", {"dora": False}),
        ("frozen A, B alone", "ffa", {"dora": False}),
        ("frozen A, B alone", "geo", {"dora": True, "magnitude": "private"}),
        ("GeoDoRA, B and m", "geo", {"dora": True, "magnitude": "mean"}),
    ],
)
def test_the_count_is_what_a_round_carries(toy: Toy, tmp_path: Path, way, method, adapter):
    """Apart from G, which goes up, and the consensus, which comes down."""
    sites = {name: dataclasses.replace(site, methods=(method,)) for name, site in toy.sites.items()}
    plain = {
        "method": {"name": method},
        "adapter": adapter,
        "training": {"rounds": 1, "geometry_weight": 0.0, "concept_weight": 0.0},
        "aggregation": {"weights": "samples"},
        "baseline": False,
    }
    run = dataclasses.replace(toy, sites=sites).with_job(**plain)
    outcome = run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state")
    state = outcome.server.state
    expected = WAYS[way](outcome.server.spec.shapes, run.job.adapter.rank)
    tensors = (*state.B.values(), *state.m.values(), *state.extra.values())
    assert sum(t.nbytes for t in tensors) == expected.down
    for site, sent in outcome.server.records[0].payload_bytes.items():
        assert sent - 4 * len(outcome.together[site].slots) ** 2 == expected.up


def test_the_published_sizes():
    """Qwen2.5 has 3.09 and 7.62 billion weights; BLIP3o speaks of 1.4 billion that it trains for the 8B."""
    towers = {name: payload.parts(name)["tower"][1] / 1e9 for name in MODELS}
    assert towers == {"BLIP3o-4B": pytest.approx(3.09, abs=0.01), "BLIP3o-8B": pytest.approx(7.62, abs=0.01)}
    shapes, weights = payload.parts("BLIP3o-8B")["head"]
    assert weights / 1e9 == pytest.approx(1.4, abs=0.05)
    # The width that issue 29 of JiuhaiChen/BLIP3o shows in the checkpoint.
    assert shapes["base_model.model.transformer.layers.0.feed_forward.linear_1"] == (4864, 1, 1792)


@pytest.mark.parametrize("name", MODELS)
def test_the_papers_claim(name):
    """Over an order of magnitude less than full fine-tuning: for every rank, there and back, tower and head."""
    for part, (shapes, weights) in payload.parts(name).items():
        ratios = {
            (way, rank): payload.full(weights).both / count(shapes, rank).both
            for way, count in WAYS.items()
            for rank in RANKS
        }
        assert min(ratios.values()) > 10, part
    shapes, weights = payload.parts(name)["head"]
    # Not in one direction alone: down, in float32, LoRA of rank 64 on the head falls just short.
    assert 9 < payload.full(weights).down / payload.lora_with_a(shapes, 64).down < 10


def test_table_and_figure(tmp_path):
    text = payload.table("BLIP3o-4B", "tower and head")
    assert text.count("\n| ") == 1 + len(RANKS) * len(WAYS)
    assert "4.45 billion weights, 492 adapted layers" in text
    payload.draw(tmp_path / "payload.png")
    assert (tmp_path / "payload.png").read_bytes().startswith(b"\x89PNG")
