"""Robust rules by loops over coordinates and sites, in plain Python."""

from __future__ import annotations

import math
import statistics

Row = list[float]


def mean(x: list[Row], p: Row) -> Row:
    return [sum(w * row[i] for w, row in zip(p, x, strict=True)) / sum(p) for i in range(len(x[0]))]


def trimmed_mean(x: list[Row], p: Row, liars: int) -> Row:
    result = []
    for i in range(len(x[0])):
        kept = sorted((row[i], w) for w, row in zip(p, x, strict=True))[liars : len(x) - liars]
        result.append(sum(value * w for value, w in kept) / sum(w for _, w in kept))
    return result


def centred_clipping(x: list[Row], p: Row, centre: Row, radius: float, steps: int) -> Row:
    for _ in range(steps):
        pull = [0.0] * len(centre)
        for w, row in zip(p, x, strict=True):
            away = [a - c for a, c in zip(row, centre, strict=True)]
            distance = math.hypot(*away)
            scale = min(1.0, radius / distance) if distance else 1.0
            pull = [s + w / sum(p) * scale * a for s, a in zip(pull, away, strict=True)]
        centre = [c + s for c, s in zip(centre, pull, strict=True)]
    return centre


def nearest_neighbour_mixing(x: list[Row], p: Row, liars: int) -> list[Row]:
    mixed = []
    for row in x:
        order = sorted(range(len(x)), key=lambda k: (x[k] is not row, math.dist(x[k], row)))[: len(x) - liars]
        mixed.append(mean([x[k] for k in order], [p[k] for k in order]))
    return mixed


def entry_median(rows: list[Row]) -> Row:
    columns = ([v for v in column if v == v] for column in zip(*rows, strict=True))
    return [statistics.median(column) if column else math.nan for column in columns]
