"""The toy federation for masked jobs: four sites with secrets of their own, every pair of anchors at three."""

from __future__ import annotations

from dataclasses import replace

from toy import Toy

NAMES = ("blue", "green", "red", "violet")
RULES = {"clip": 0.0, "max_share": 1.0, "min_sites": 3}


def four(toy: Toy, *, masked: bool = True, **changes: object) -> Toy:
    """Red, green, blue and violet, who has red's data; blue lacks a concept that the other three have."""
    sites = {name: toy.sites["red" if name == "violet" else name] for name in NAMES}
    own = {name: replace(config, secret=f"{name}'s own") for name, config in sites.items()}
    rules = {**RULES, "masked": masked}
    return Toy(toy.root, toy.job, own).with_job(aggregation=rules, **changes)
