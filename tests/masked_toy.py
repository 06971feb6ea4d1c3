"""The toy federation for masked jobs: four sites with secrets of their own, every pair of anchors at three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedgram.training.loop import asking
from fedgram.training.masked.messages import SumCall
from fedgram.training.masked.rounds import first_consensus, masked_round
from fedgram.training.server import ServerState, agree
from toy import Toy

NAMES = ("blue", "green", "red", "violet")
RULES = {"clip": 0.0, "max_share": 1.0, "min_sites": 3}


def four(toy: Toy, *, masked: bool = True, **changes: object) -> Toy:
    """Red, green, blue and violet, who has red's data; blue lacks a concept that the other three have."""
    data = {name: "red" if name == "violet" else name for name in NAMES}
    own = {name: replace(toy.sites[site], secret=8 * f"{site}'s own") for name, site in data.items()}
    rules = {**RULES, "masked": masked}
    return Toy(toy.root, toy.job, own).with_job(aggregation=rules, **changes)


def round_one(toy: Toy, folder: Path) -> tuple[ServerState, dict[str, tuple[SumCall, Any]]]:
    """The state before the first round of a masked job, and what red is asked and answers in it, by phase."""
    run = four(toy)
    sessions = run.sessions(folder)
    state, _ = agree([session.introduce() for session in sessions.values()], run.job)
    state = first_consensus(state, run.job, asking(sessions))
    heard: dict[str, tuple[SumCall, Any]] = {}

    def ask(phase: str, calls: Mapping[str, SumCall], receive: Callable[[Any], None], refuse: Any) -> None:
        def kept(reply: Any) -> None:
            if reply.site == "red":
                heard[phase] = (calls["red"], reply)
            receive(reply)

        asking(sessions, state.state)(phase, calls, kept, refuse)

    masked_round(state, run.job, sessions, ask)
    return state, heard
