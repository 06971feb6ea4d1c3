"""Masks number by number, with Python's whole numbers."""

from __future__ import annotations

from fedgram.core.masks import stream


def wrapped(number: int) -> int:
    """The int64 that is congruent modulo 2⁶⁴."""
    return (number + 2**63) % 2**64 - 2**63


def masked(own: str, values: dict[str, list[int]], seed: bytes, pairs: dict[str, bytes]) -> dict[str, list[int]]:
    """y_u = x_u + PRG(b_u) + Σ_{v>u} PRG(s_uv) − Σ_{v<u} PRG(s_uv) mod 2⁶⁴."""
    hidden = {}
    for label, numbers in values.items():
        shape = (len(numbers),)
        total = [x + m for x, m in zip(numbers, stream(seed, label, shape).tolist(), strict=True)]
        for other, shared in pairs.items():
            sign = 1 if own < other else -1
            total = [x + sign * m for x, m in zip(total, stream(shared, label, shape).tolist(), strict=True)]
        hidden[label] = [wrapped(number) for number in total]
    return hidden
