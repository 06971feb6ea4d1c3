"""Training alone: what can be had without sharing anything."""

from __future__ import annotations

from fedgram.methods.base import Method


class Local(Method):
    """Every site trains alone; the anchors serve only to compare them afterwards."""

    name = "local"
    title = "training alone"
    shares = "nothing"

    def shares_b(self, layer: str) -> bool:
        return False
