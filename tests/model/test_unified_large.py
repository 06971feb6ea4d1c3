"""What large unified models need, on tiny ones: layers computed twice, a tower in 4 bits, sizes before loading."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import blip3o_files
import pytest
import tiny_janus
import torch
from fedgram.config.job import AdapterConfig, AnchorPin, BackboneConfig, JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.unified import UnifiedConfig
from fedgram.errors import BackboneError
from fedgram.methods import method_of
from fedgram.model.unified.sizes import Sizes, sizes
from fedgram.pretrained import locate
from fedgram.records import ModelSpec
from fedgram.sites.unified import build_unified
from PIL import Image

KINDS = ["janus", "blip3o"]
# With BLIP3o a question is "what colour is it", in the few words that its tiny tokenizer has.
ASKED, ANSWERED, PROMPTED = ["what colour is it"], ["red"], ["a red ring"]
JOB = JobConfig(
    anchors=AnchorPin("0" * 64, ("a",) * 4),
    backbone=BackboneConfig("tiny"),
    adapter=AdapterConfig(rank=2, alpha=4.0, dora=False),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("unified")
    return {"janus": tiny_janus.save(root / "janus"), "blip3o": str(blip3o_files.write(root / "blip3o"))}


def build(folder: str, **settings: Any) -> tuple[Any, ModelSpec]:
    config = SiteConfig(
        modality="unified",
        anchors="",
        secret="",
        unified=UnifiedConfig(questions="/none"),
        backbones={"tiny": folder},
        device="cpu",
    )
    return build_unified(dataclasses.replace(config, **settings), JOB, method_of(JOB))


def gradients(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The sum of both losses on one picture, and its gradient to the update."""
    unified, picture = model.unified, [Image.new("RGB", (32, 32), (200, 30, 40))]
    seen, targets = unified.see(picture), unified.targets(picture)
    loss = unified.understanding_loss(seen, ASKED, ANSWERED)
    loss = loss + unified.generation_loss(PROMPTED, targets, torch.Generator().manual_seed(1))
    model.transformer.zero_grad()
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.transformer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_computed_twice_give_the_same_gradients(kind: str, folders: dict[str, str]):
    (plain, _), (again, _) = build(folders[kind]), build(folders[kind], gradient_checkpointing=True)
    (loss, expected), (loss_again, found) = gradients(plain), gradients(again)
    assert loss_again == loss
    assert expected
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], grad) for name, grad in expected.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_in_4_bits_trains_and_agrees_with_sites_that_have_it_in_full(kind: str, folders: dict[str, str]):
    (full, spec), (small, spec_small) = build(folders[kind]), build(folders[kind], precision="nf4")
    assert spec_small == spec  # names, shapes and the hash of the checkpoint
    loss, expected = gradients(full)
    loss_small, found = gradients(small)
    assert loss_small == pytest.approx(loss, rel=0.15)
    assert found.keys() == expected.keys()
    flat, flat_small = (torch.cat([grad.flatten() for grad in some.values()]) for some in (expected, found))
    assert torch.cosine_similarity(flat, flat_small, dim=0) > 0.5
    stored = [p for p in small.transformer.parameters() if not p.is_floating_point()]
    assert len(stored) == len(spec.shapes)  # every adapted layer, and nothing else
    others = (p for part in (small.unified.head, *_others(small.unified)) for p in part.parameters())
    assert all(p.is_floating_point() for p in others)


def _others(unified: Any) -> list[torch.nn.Module]:
    inside = unified.model.model if hasattr(unified, "model") else None
    return (
        [inside.vision_model, inside.aligner, inside.generation_aligner, unified.model.lm_head] if inside else []
    )


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_loaded_weights(kind: str, folders: dict[str, str], tmp_path: Path):
    known, config = {"tiny": folders[kind]}, JOB.backbone
    full, bf16, small = (sizes(config, known, precision) for precision in ("fp32", "bf16", "nf4"))
    unified = build(folders[kind])[0].unified
    assert full.seen == 4 * unified.see([Image.new("RGB", (32, 32))])[0].numel()
    assert small.weights < bf16.weights < full.weights
    assert {"tower", "vision encoder", "generation head"} <= full.parts.keys()
    whole = unified.model if kind == "janus" else unified
    held = {id(p): p for name, p in whole.named_parameters() if "lora_" not in name}
    assert _without_decoder(full) == pytest.approx(4 * sum(p.numel() for p in held.values()), rel=0.02)


def _without_decoder(found: Sizes) -> int:
    return found.weights - found.parts.get("decoder of pictures", 0)


def test_the_sizes_of_what_is_no_unified_model():
    with pytest.raises(BackboneError, match="a unified model"):
        sizes(BackboneConfig("minilm"), {}, "fp32")
    assert sizes(BackboneConfig("janus-shapes"), {}, "bf16").weights == pytest.approx(
        (Path(locate("janus-shapes")) / "model.safetensors").stat().st_size, rel=0.02
    )
