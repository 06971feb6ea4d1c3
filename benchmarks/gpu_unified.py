"""One local round of a unified site in the shapes of Janus-Pro-1B, with random weights: seconds and peak memory.

    python benchmarks/gpu_unified.py [--miniature] [--out results/gpu-unified.json]

Nothing is downloaded: a checkpoint of random weights in bf16 (4 GB) is written to the folder for temporary files
and opened as a site opens its own, with rendered scenes for questions and captions. Four rows: the language tower
in bf16 and in nf4, its layers computed once and twice. A row has the seconds of opening (the frozen parts look at
every picture, and the cache is written), of opening again (from the cache), and of the round by step; the peak is
the allocator's over the round, on the CPU that of the process. `--miniature` takes a Janus of width 64, on the CPU
too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import torch
from fedgram.anchors import load_anchors
from fedgram.config.job import (
    AdapterConfig,
    AggregationConfig,
    AnchorPin,
    BackboneConfig,
    JobConfig,
    TrainingConfig,
)
from fedgram.config.site import Precision, SiteConfig
from fedgram.config.unified import UnifiedConfig
from fedgram.demo.names import locate as locate_demo
from fedgram.pretrained import locate, quiet_loading
from fedgram.sites.base import Site
from fedgram.sites.opening import open_site
from fedgram.training import rounds
from fedgram.training.server import agree
from transformers import GenerationConfig, JanusConfig, JanusForConditionalGeneration, JanusProcessor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.card import arguments, facts  # noqa: E402
from benchmarks.step_cost import RANK, forget_peak, peak  # noqa: E402
from research.scenes.data import write_scene_captions, write_scene_questions  # noqa: E402
from research.scenes.scenes import World  # noqa: E402

T = TypeVar("T")
PRECISIONS: tuple[Precision, ...] = ("bf16", "nf4")
PICTURES, STEPS, BATCH = 128, 8, 8  # questions, and as many captions; steps of the round
ANCHORS = "demo:scenes/anchors/train"
# deepseek-community/Janus-Pro-1B: a Llama, SigLIP-L of 384 × 384 pixels, and a VQ-VAE of 24 × 24 codes.
PRO_1B: dict[str, dict[str, Any]] = {
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "vocab_size": 102400,
        "max_position_embeddings": 16384,
    },
    "vision_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 16,
        "projection_dim": 2048,
        "num_image_tokens": 576,
    },
    "vq_config": {
        "embed_dim": 8,
        "num_embeddings": 16384,
        "latent_channels": 256,
        "base_channels": 128,
        "channel_multiplier": [1, 1, 2, 2, 4],
        "num_res_blocks": 2,
        "num_patches": 24,
        "projection_dim": 2048,
        "image_token_embed_dim": 2048,
    },
}
MINIATURE: dict[str, dict[str, Any]] = {
    "text_config": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"num_key_value_heads": 2},
    "vision_config": {"num_hidden_layers": 1, "projection_dim": 64},
    "vq_config": {"projection_dim": 64, "image_token_embed_dim": 64},
}


def settings(shapes: dict[str, dict[str, Any]]) -> JanusConfig:
    """The configuration of the embedded small Janus in other shapes."""
    plain = JanusConfig.from_pretrained(locate("janus-shapes")).to_dict()
    return JanusConfig(**(plain | {part: plain[part] | values for part, values in shapes.items()}))


def write_random(folder: Path, shapes: dict[str, dict[str, Any]], device: str) -> int:
    """Write a checkpoint of random weights in bf16; returns how many there are."""
    torch.manual_seed(0)
    config, source = settings(shapes), locate("janus-shapes")
    vision: Any = config.vision_config
    processor: Any = JanusProcessor.from_pretrained(source)
    processor.num_image_tokens = vision.num_image_tokens
    side = vision.image_size
    processor.image_processor.size = {"height": side, "width": side}
    with quiet_loading(), torch.device(device):
        model = JanusForConditionalGeneration(config).bfloat16()
        model.generation_config = GenerationConfig.from_pretrained(source)
        model.save_pretrained(folder, max_shard_size="2GB")
        processor.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def job_of(anchors: Path) -> JobConfig:
    """One round of FedUMM's settings over the demo's anchors."""
    found = load_anchors(anchors)
    concepts = tuple(slot.concept for slot in found.slots)
    return JobConfig(
        anchors=AnchorPin(found.manifest_sha256, concepts),
        backbone=BackboneConfig("random"),
        adapter=AdapterConfig(rank=RANK, alpha=2.0 * RANK, dora=False),
        training=TrainingConfig(
            rounds=1, local_steps=STEPS, batch_size=BATCH, geometry_weight=0.0, concept_weight=0.0
        ),
        aggregation=AggregationConfig(weights="samples", min_sites=1),
    )


def timed(what: Callable[[], T], device: str) -> tuple[float, T]:
    """Seconds until the device has done it."""
    started = time.perf_counter()
    result = what()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def row(root: Path, precision: Precision, again: bool, device: str) -> dict[str, Any]:
    """Open a site twice, and train one round."""
    cache = root / f"cache-{precision}-{again}"
    anchors = locate_demo(ANCHORS, root)
    config = SiteConfig(
        secret="",
        modality="unified",
        anchors=str(anchors),
        unified=UnifiedConfig(questions=str(root / "vqa"), captions=str(root / "captions" / "captions.jsonl")),
        backbones={"random": str(root / "janus")},
        precision=precision,
        gradient_checkpointing=again,
        device=device,
        cache=str(cache),
    )

    def opened() -> Site:
        return open_site("unified", config, job_of(anchors))

    opening, _ = timed(opened, device)
    from_cache, site = timed(opened, device)
    state = agree([rounds.introduce(site)], site.job)[0].state
    forget_peak(device)
    seconds, update = timed(lambda: rounds.local_round(site, state), device)
    return {
        "precision": precision,
        "gradient_checkpointing": again,
        "opening_seconds": opening,
        "reopening_seconds": from_cache,
        "round_seconds": seconds,
        "seconds_per_step": update.metrics["seconds"] / STEPS,
        "peak_bytes": peak(device),
        "cache_bytes": sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()),
        "loss": update.metrics["task_loss"],
    }


def measure(shapes: dict[str, dict[str, Any]], device: str) -> dict[str, Any]:
    """All rows, with the machine and packages that they were measured with."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        parameters = write_random(root / "janus", shapes, device)
        vision: Any = settings(shapes).vision_config
        side = vision.image_size
        write_scene_questions(root / "vqa", "train2014", PICTURES, 0, World(), pixels=side)
        write_scene_captions(root / "captions", PICTURES, 1, World(), pixels=side)
        found = [row(root, precision, again, device) for precision, again in product(PRECISIONS, (False, True))]
    return {**facts(device), "parameters": parameters, "rank": RANK, "rows": found}


def main() -> None:
    """Measure, print the rows, write JSON."""
    options, device = arguments(__doc__, ROOT / "results/gpu-unified.json")
    found = json.dumps(measure(MINIATURE if options.miniature else PRO_1B, device), indent=1)
    options.out.write_text(found)
    print(found, options.out, sep="\n")


if __name__ == "__main__":
    main()
