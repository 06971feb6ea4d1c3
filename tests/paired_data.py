"""A bridge site for the toy federation: red, which has its samples in the signals of blue as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from fedgram.config.site import BridgeConfig
from toy import CONCEPTS, Toy, latents, seen_at, write_signals


def bridged(toy: Toy, folder: Path, *, each: int = 60, **settings: float) -> Toy:
    """The toy with red as a bridge site.

    Each modality sees a sample's hidden vector through its own mixing and with noise of its own. The samples of a
    concept differ, so a pair is found by more than its concept. The tables are in different orders; two samples
    are in the first alone, two in the second.

    Args:
        each: samples of a concept.
        settings: of the bridge.
    """
    folder.mkdir(parents=True, exist_ok=True)
    concepts = [concept for concept in CONCEPTS for _ in range(each)]
    ids, noise, hidden = [f"p{i}" for i in range(len(concepts))], np.random.default_rng(5), latents(concepts, [11])
    first, second = (hidden + 0.05 * noise.normal(size=hidden.shape) for _ in range(2))
    write_signals(folder / "first.csv", seen_at("red", first), {"id": ids, "concept": concepts, "group": ids})
    order = noise.permutation(len(ids))
    names = ["nobody" if i == 0 else "someone" if i == 1 else ids[i] for i in order]
    labels = {"id": names, "concept": ["?"] * len(names), "group": names}
    write_signals(folder / "second.csv", seen_at("blue", second[order]), labels)
    bridge = BridgeConfig("toy_modalities:BLUE", str(folder / "second.csv"), "patches", **settings)
    red = replace(toy.sites["red"], data=str(folder / "first.csv"), bridge=bridge)
    return replace(toy, sites={**toy.sites, "red": red}).with_job(training={"local_steps": 12})
