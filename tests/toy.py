"""A whole federation small enough for a test: three kinds of signals that share a hidden geometry.

The modality is the worked example ``examples/my_signals.py``, so that what a user reads is what runs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, BackboneConfig, JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.sites.base import Site
from fedgram.sites.opening import open_site
from fedgram.sites.single import SingleSite
from fedgram.training.session import SiteSession
from transformers import BertConfig, BertModel

ROOT = Path(__file__).resolve().parents[1]
SITES = {"red": 0, "green": 1, "blue": 2}
CONCEPTS = ("oak", "pine", "rye", "moss")
LENGTH = 64


def latents(concepts: list[str], seed: list[int], noise: float = 0.3) -> np.ndarray:
    """(N, 8): hidden concept vectors, noisy."""
    hidden = np.random.default_rng(7).normal(size=(len(CONCEPTS), 8))
    latent = np.stack([hidden[CONCEPTS.index(c)] for c in concepts])
    return latent + noise * np.random.default_rng(seed).normal(size=latent.shape)


def seen_at(site: str, latent: np.ndarray) -> np.ndarray:
    """(N, LENGTH): through this site's own random mixing."""
    mixing = np.random.default_rng(100 + SITES[site]).normal(size=(8, LENGTH)) / 8**0.5
    return (latent @ mixing).astype(np.float32)


def signals(site: str, concepts: list[str], seed: int) -> np.ndarray:
    """(N, LENGTH) signals of a site, paired with no other's."""
    return seen_at(site, latents(concepts, [seed, SITES[site]]))


def write_signals(path: Path, rows: np.ndarray, labels: dict[str, list[str]]) -> None:
    """A table of signals; ``labels`` are its other columns by name."""
    header = [*labels, *(f"v{i}" for i in range(LENGTH))]
    lines = [",".join([*names, *map(str, row)]) for *names, row in zip(*labels.values(), rows, strict=True)]
    path.write_text("\n".join([",".join(header), *lines]) + "\n")


def write_anchors(folder: Path, seed: int, per_concept: int, missing: dict[str, str]) -> AnchorPin:
    """An anchor set; ``missing`` names a concept that a site's modality does not fill."""
    concepts = [c for c in CONCEPTS for _ in range(per_concept)]
    values = {site: signals(site, concepts, seed) for site in SITES}
    slots = []
    for number, concept in enumerate(concepts):
        files = {}
        for site in SITES:
            if missing.get(site) == concept:
                continue
            path = folder / site / f"{number}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, values[site][number : number + 1], delimiter=",")
            files[site] = {
                "path": f"{site}/{number}.csv",
                "sha256": sha256(path.read_bytes()).hexdigest(),
                "origin": "synthetic",
                "licence": "CC0-1.0",
                "source": "made in the test",
            }
        slots.append({"id": f"slot-{number}", "concept": concept, "files": files})
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "name": folder.name, "slots": slots}))
    return AnchorPin(load_anchors(folder).manifest_sha256, tuple(concepts))


def few_positions(folder: Path) -> Path:
    """Make a backbone of the toy's kind with 3 positions: a toy's sample has 4 tokens."""
    settings = BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    settings.max_position_embeddings = 3
    BertModel(settings).save_pretrained(folder / "short")
    return folder / "short"


def write_site_file(path: Path, config: SiteConfig) -> None:
    """A site's own file (TOML)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_toml(to_dict(config))) + "\n")


def _toml(settings: dict[str, object], name: str = "") -> Iterator[str]:
    """Lines of a table and of those in it."""
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    yield from [f"[{name}]"] if name else []
    for key, value in settings.items():
        if value is not None and key not in tables:
            yield f"{json.dumps(key)} = {json.dumps(value)}"
    for key, table in tables.items():
        yield from _toml(table, f"{name}.{key}".lstrip("."))


_OPENED: dict[str, Site] = {}


def opened(name: str, config: SiteConfig, job: JobConfig) -> Any:
    """A copy of the opened site: opening costs four times as much, and tests open hundreds."""
    key = repr((name, config, job))
    if key not in _OPENED:
        _OPENED[key] = open_site(name, config, job)
    return deepcopy(_OPENED[key])


@dataclass(frozen=True)
class Toy:
    """Files of the federation, its job and its site files."""

    root: Path
    job: JobConfig
    sites: dict[str, SiteConfig]

    def with_job(self, **changes: object) -> Toy:
        """The same sites under other job settings, given as plain data by part."""
        plain = to_dict(self.job)
        for part, values in changes.items():
            plain[part] = {**plain[part], **values} if isinstance(values, dict) else values
        return Toy(self.root, from_dict(JobConfig, plain, "test"), self.sites)

    def open(self, name: str) -> SingleSite:
        return opened(name, self.sites[name], self.job)

    def sessions(self, folder: Path) -> dict[str, SiteSession]:
        return {name: SiteSession(self.open(name), folder / name) for name in self.sites}


def make(root: Path) -> Toy:
    """Write everything below ``root`` and describe it."""
    modules = root / "modules"
    modules.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "my_signals.py", modules)
    lines = ["from my_signals import Signal", *(f"{site.upper()} = Signal({site!r})" for site in SITES)]
    (modules / "toy_modalities.py").write_text("\n".join(lines) + "\n")
    if str(modules) not in sys.path:
        sys.path.insert(0, str(modules))
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=30, max_position_embeddings=16, **shape)).save_pretrained(root / "tiny")
    train = write_anchors(root / "anchors", seed=1, per_concept=3, missing={"blue": "moss"})
    heldout = write_anchors(root / "heldout", seed=2, per_concept=3, missing={"blue": "moss"})
    sites = {}
    for site in SITES:
        concepts = [c for c in CONCEPTS for _ in range(20) if (site, c) != ("blue", "moss")]
        count = range(len(concepts))
        labels = {"id": [f"{i}" for i in count], "concept": concepts, "group": [f"g{i}" for i in count]}
        write_signals(root / f"{site}.csv", signals(site, concepts, seed=3), labels)
        sites[site] = SiteConfig(
            secret="",
            modality=f"toy_modalities:{site.upper()}",
            data=str(root / f"{site}.csv"),
            tokenizer="patches",
            anchors=str(root / "anchors"),
            heldout=str(root / "heldout"),
            backbones={"tiny": str(root / "tiny")},
            device="cpu",
            threads=1,
            cache=str(root / "cache"),
        )
    plain = {
        "anchors": to_dict(train),
        "heldout": to_dict(heldout),
        "backbone": to_dict(BackboneConfig("tiny")),
        "adapter": {"rank": 4, "alpha": 8.0, "magnitude": "mean"},
        "training": {"rounds": 3, "local_steps": 4, "batch_size": 16},
    }
    return Toy(root, from_dict(JobConfig, plain, "test"), sites)
