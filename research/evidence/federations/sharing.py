"""Data dealt to sites for a regime: split anew by group with every seed, then so many samples a class and site.

A group is on one side of the split, at whatever site; several sites may have samples of it, as several clinics see
one species.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from fedgram.config.site import SiteConfig
from fedgram.data.splits import PARTS
from fedgram.demo.names import locate

from research.evidence.federations import Federation, kind_of
from research.evidence.federations.assemble import pin
from research.evidence.federations.items import Item, Pool, Source
from research.evidence.federations.once import digest, once
from research.evidence.federations.sitefiles import TABLE, data_of, write_site

LEAST_TESTED = 20  # test samples of a class over the sites of a modality; of fewer none is kept
MOST_TESTED = 40  # of a class at a site

Parts = Mapping[str, Sequence[Item]]


@dataclass(frozen=True)
class Share:
    """The samples of one site by part, and the concepts whose labels it trains on, where these are not all."""

    pool: Pool
    parts: Parts
    concepts: tuple[str, ...] = ()


def split(items: Sequence[Item], needs: Sequence[tuple[str, int]], seed: int) -> dict[str, list[Item]]:
    """Deal groups to parts: so many samples of each class to the first part named, then to the next.

    What is left is tested. Where groups have several classes each, a part has enough when three quarters of them
    have.

    Args:
        needs: parts with the samples of a class that each needs in all, the most urgent first.
    """
    mixed = len({(i.group, i.concept) for i in items}) > len({i.group for i in items})
    strata: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        strata["" if mixed else item.concept].append(item)
    parts: dict[str, list[Item]] = {part: [] for part in PARTS}
    for rows in strata.values():
        waiting = by_group(rows, seed)
        concepts = {i.concept for i in rows}
        have = {part: Counter[str]() for part in PARTS}
        for part, need in needs:
            while waiting and sorted(have[part][c] for c in concepts)[len(concepts) // 4] < need:
                own = waiting.pop(0)
                have[part].update(i.concept for i in own)
                parts[part] += own
        parts["test"] += [i for own in waiting for i in own]
    return parts


def by_group(items: Iterable[Item], seed: int) -> list[list[Item]]:
    """The items of each group, groups and their items in an order of the seed."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in shuffled(items, seed):
        groups[item.group].append(item)
    return [groups[name] for name in sorted(groups, key=lambda name: _rank(seed, name))]


def shuffled(items: Iterable[Item], seed: int) -> list[Item]:
    """The items in an order of the seed and their ids."""
    return sorted(items, key=lambda item: _rank(seed, item.id))


def of(items: Iterable[Item], concept: str) -> list[Item]:
    """The items of a concept, in their order."""
    return [i for i in items if i.concept == concept]


def concepts_of(items: Iterable[Item]) -> list[str]:
    """The concepts of items, in order."""
    return sorted({i.concept for i in items})


def measurable(shares: Mapping[str, Share]) -> dict[str, Share]:
    """The shares without test samples of classes that have fewer than :data:`LEAST_TESTED` in their modality."""
    tested = Counter((kind_of(name), i.concept) for name, share in shares.items() for i in share.parts["test"])
    return {
        name: replace(
            share,
            parts={
                **share.parts,
                "test": [i for i in share.parts["test"] if tested[kind_of(name), i.concept] >= LEAST_TESTED],
            },
        )
        for name, share in shares.items()
    }


def write(name: str, folder: Path, source: Source, shares: Mapping[str, Share]) -> Federation:
    """A federation of these sites, written below ``folder`` unless it is there."""
    described = {}
    for site, share in measurable(shares).items():
        kind = share.pool.kind
        part_of = {i.id: part for part in PARTS for i in share.parts[part]}
        items = [i for part in PARTS for i in share.parts[part]]
        target = folder / "regimes" / f"{kind}-{digest((items, sorted(part_of.items())))}"
        once(target, lambda fresh, k=kind, i=items, p=part_of: write_site(fresh, k, i, p))
        data, labels = data_of(target, kind)
        described[site] = SiteConfig(
            secret="",
            modality=share.pool.modality,
            data=data,
            labels=labels,
            tokenizer=share.pool.tokenizer,
            anchors=source.anchors[0],
            heldout=source.anchors[1],
            concepts=share.concepts,
            backbones=dict(source.backbones),
            device="cpu",
            threads=1,
            cache=str(folder / "cache"),
        )
    train, heldout = (pin(locate(anchors, folder / "cache")) for anchors in source.anchors)
    return Federation(name, described, train, heldout, source.backbone)


def counts(federation: Federation) -> dict[str, dict[str, Counter[str]]]:
    """The number of samples by site, part and class, as the sites' files have them."""
    found: dict[str, dict[str, Counter[str]]] = {}
    for name, config in federation.sites.items():
        found[name] = {part: Counter() for part in PARTS}
        with (Path(config.data).parent / TABLE).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found[name][row["split"]][row["concept"]] += 1
    return found


def _rank(seed: int, name: str) -> bytes:
    return sha256(f"{seed}|{name}".encode()).digest()
