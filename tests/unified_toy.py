"""A small federation of unified sites over a tiny Janus with random weights, and one site of another modality."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import tiny_janus
import toy
from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.config.unified import UnifiedConfig
from fedgram.sites.base import Site
from fedgram.training.session import SiteSession

from research.scenes.data import write_scene_captions, write_scene_questions
from research.scenes.prompts import make_prompts, write_prompts
from research.scenes.scenes import World, draw, random_scene

PIXELS = tiny_janus.PIXELS
WORLD = World(colours=("red", "blue", "green"), shapes=("square", "circle"), most=2)


@dataclass(frozen=True)
class UnifiedToy:
    """Files of the federation, its job and its site files."""

    root: Path
    job: JobConfig
    sites: dict[str, SiteConfig]

    def with_job(self, **changes: object) -> UnifiedToy:
        plain = to_dict(self.job)
        for part, values in changes.items():
            plain[part] = {**plain[part], **values} if isinstance(values, dict) else values
        return UnifiedToy(self.root, from_dict(JobConfig, plain, "test"), self.sites)

    def only(self, *names: str) -> UnifiedToy:
        return UnifiedToy(self.root, self.job, {name: self.sites[name] for name in names})

    def open(self, name: str) -> Site:
        return toy.opened(name, self.sites[name], self.job)

    def sessions(self, folder: Path) -> dict[str, SiteSession]:
        return {name: SiteSession(self.open(name), folder / name) for name in self.sites}


def write_anchors(folder: Path, seed: int, count: int = 6) -> AnchorPin:
    """Scenes for unified sites, and signals for the toy's site ``red``, of the same concepts."""
    generator = np.random.default_rng(seed)
    concepts = [toy.CONCEPTS[i % 4] for i in range(count)]
    signals = toy.signals("red", concepts, seed)
    slots = []
    for number, concept in enumerate(concepts):
        files = {"image": f"{number}.png", "red": f"{number}.csv"}
        folder.mkdir(parents=True, exist_ok=True)
        draw(random_scene(generator, WORLD), PIXELS).save(folder / files["image"])
        np.savetxt(folder / files["red"], signals[number : number + 1], delimiter=",")
        facts = {"origin": "synthetic", "licence": "CC0-1.0", "source": "made in the test"}
        listed = {
            modality: {"path": name, "sha256": sha256((folder / name).read_bytes()).hexdigest(), **facts}
            for modality, name in files.items()
        }
        slots.append({"id": f"slot-{number}", "concept": concept, "files": listed})
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "name": folder.name, "slots": slots}))
    return AnchorPin(load_anchors(folder).manifest_sha256, tuple(concepts))


def make(root: Path) -> UnifiedToy:
    """Two sites that do both, one that only answers, one that only makes pictures, and ``red`` of the toy."""
    janus = tiny_janus.save(root / "janus")
    train, heldout = write_anchors(root / "anchors", 1), write_anchors(root / "heldout", 2)
    write_prompts(root / "prompts.jsonl", make_prompts(WORLD, 1, 0))
    common = {
        "anchors": str(root / "anchors"),
        "heldout": str(root / "heldout"),
        "backbones": {"tiny": janus},
        "device": "cpu",
        "threads": 1,
        "secret": "",
        "cache": str(root / "cache"),
    }
    sites = {}
    for seed, name in enumerate(("one", "two")):
        folder = root / name
        write_scene_questions(folder / "vqa", "train2014", 24, seed, WORLD, pixels=PIXELS)
        write_scene_captions(folder / "captions", 12, seed, WORLD, pixels=PIXELS)
        settings = UnifiedConfig(
            str(folder / "vqa"), str(folder / "captions" / "captions.jsonl"), str(root / "prompts.jsonl")
        )
        sites[name] = SiteConfig(modality="unified", unified=settings, **common)
    answers, makes = (
        UnifiedConfig(sites["one"].unified.questions),
        UnifiedConfig(None, sites["two"].unified.captions),
    )
    sites["answers"] = SiteConfig(modality="unified", unified=answers, **common)
    sites["makes"] = SiteConfig(modality="unified", unified=makes, **common)
    signals = toy.make(root / "toy").sites["red"]
    sites["red"] = SiteConfig(modality=signals.modality, data=signals.data, tokenizer="patches", **common)
    plain = {
        "anchors": to_dict(train),
        "heldout": to_dict(heldout),
        "backbone": {"name": "tiny"},
        "adapter": {"rank": 4, "alpha": 8.0, "dora": False},
        "training": {
            "rounds": 2,
            "local_steps": 3,
            "batch_size": 4,
            "geometry_weight": 0.0,
            "concept_weight": 0.0,
        },
        "aggregation": {"weights": "samples"},
    }
    return UnifiedToy(root, from_dict(JobConfig, plain, "test"), sites)
