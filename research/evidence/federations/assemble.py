"""A federation from pools and anchors: its data are split, dealt to sites and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, BackboneConfig
from fedgram.config.site import SiteConfig
from fedgram.data import splits
from fedgram.demo.names import locate
from fedgram.records import Sample

from research.evidence.federations import Federation
from research.evidence.federations.allocate import allocate, most_sites
from research.evidence.federations.items import Item, Pool, ranked
from research.evidence.federations.once import digest, once
from research.evidence.federations.sitefiles import data_of, write_site
from research.partition.dirichlet import Group, partition

MOST_TRAINING = 400  # samples of a site
_MOST_MEASURED = {"validation": 30, "test": 60}  # samples of a concept over all sites of a modality


@dataclass(frozen=True)
class _Split:
    """A pool with the part of each item by id; what is beyond the limits of a part is left out."""

    pool: Pool
    items: list[Item]
    part_of: Mapping[str, str]

    @property
    def mixed(self) -> bool:
        """Whether a group has several concepts, so that no partition over concepts can keep it together."""
        return len({(i.group, i.concept) for i in self.items}) > len({i.group for i in self.items})

    def groups(self) -> list[Group]:
        samples: dict[tuple[str, str, str], int] = {}
        for item in self.items:
            key = item.group, item.concept, self.part_of[item.id]
            samples[key] = samples.get(key, 0) + 1
        return [Group(*key, count) for key, count in sorted(samples.items())]

    def most_sites(self, limit: int) -> int:
        return 1 if self.mixed else most_sites(self.groups(), limit, self.pool.unseen)


def assemble(
    name: str,
    folder: Path,
    pools: Sequence[Pool],
    anchors: tuple[str, str],
    backbone: BackboneConfig,
    *,
    sites: int,
    alpha: float,
    seed: int,
    backbones: Mapping[str, str] | None = None,
) -> Federation:
    """A federation whose data are written below ``folder``.

    Args:
        anchors: folders of the training and of the held-out anchors, as a site file names them.
        backbones: folder by name, for a backbone of the federation's own.

    Raises:
        ConfigError: too few data for so many sites; see :func:`~.partition.partition`.
    """
    parts = {pool.kind: split(pool) for pool in pools}
    counts = allocate(
        {kind: sum(p == "train" for p in part.part_of.values()) for kind, part in parts.items()},
        {kind: part.most_sites(sites) for kind, part in parts.items()},
        sites,
    )
    described = {}
    for kind, part in parts.items():
        number = counts[kind]
        divided = _divide(part, number, alpha, _seed(seed, kind))
        target = folder / "sites" / f"{kind}-{digest((divided, sorted(part.part_of.items())))}"
        once(target, lambda fresh, d=divided, k=kind, p=part: _write(fresh, k, d, p.part_of))
        for index, items in enumerate(divided):
            data, labels = data_of(target / str(index + 1), kind)
            config = SiteConfig(
                secret="",  # public data: a seed gives the same numbers anywhere
                modality=part.pool.modality,
                data=data,
                labels=labels,
                tokenizer=part.pool.tokenizer,
                anchors=anchors[0],
                heldout=anchors[1],
                concepts=_trained(part, items),
                backbones=dict(backbones or {}),
                device="cpu",
                threads=1,
                cache=str(folder / "cache"),
            )
            described[f"{kind}-{index + 1}"] = config
    pins = [pin(locate(a, folder / "cache")) for a in anchors]
    return Federation(name, described, pins[0], pins[1], backbone)


def pin(folder: Path) -> AnchorPin:
    """The pin by which a job names an anchor set."""
    found = load_anchors(folder)
    return AnchorPin(found.manifest_sha256, tuple(slot.concept for slot in found.slots))


def split(pool: Pool) -> _Split:
    """The pool with its items split by group as fedgram splits a site's data, the same for any number of sites."""
    parts = splits.split([Sample(id=i.id, concept=i.concept, group=i.group, content=None) for i in pool.items])
    part_of = {s.id: part for part, rows in parts.items() for s in rows}
    kept = {i.id for i in pool.items if part_of[i.id] == "train"}
    for part, most in _MOST_MEASURED.items():
        for concept in {i.concept for i in pool.items}:
            rows = [i for i in pool.items if i.concept == concept and part_of[i.id] == part]
            kept |= {i.id for i in ranked(rows)[:most]}
    items = [i for i in pool.items if i.id in kept]
    return _Split(pool, items, {i.id: part_of[i.id] for i in items})


def _divide(part: _Split, sites: int, alpha: float, seed: int) -> list[list[Item]]:
    """The items of each site, at most :data:`MOST_TRAINING` of them to train on."""
    if sites == 1:
        site_of = dict.fromkeys((i.group for i in part.items), 0)
    else:
        site_of = partition(part.groups(), sites, alpha, seed, part.pool.unseen)
    return [_limited([i for i in part.items if site_of[i.group] == k], part.part_of) for k in range(sites)]


def _limited(items: Sequence[Item], part_of: Mapping[str, str]) -> list[Item]:
    """At most so many training items of a site, every concept with its share of them."""
    train = [i for i in items if part_of[i.id] == "train"]
    share = min(1.0, MOST_TRAINING / max(1, len(train)))
    kept = {i.id for i in items if part_of[i.id] != "train"}
    for concept in {i.concept for i in train}:
        own = ranked(i for i in train if i.concept == concept)
        kept |= {i.id for i in own[: max(1, int(share * len(own)))]}
    return [i for i in items if i.id in kept]


def _trained(part: _Split, items: Sequence[Item]) -> tuple[str, ...]:
    """The ``concepts`` of a site file: empty where the site trains on all that it has."""
    present = {i.concept for i in items}
    return tuple(sorted(present - part.pool.unseen)) if present & part.pool.unseen else ()


def _write(folder: Path, kind: str, divided: Sequence[Sequence[Item]], part_of: Mapping[str, str]) -> None:
    for index, items in enumerate(divided):
        write_site(folder / str(index + 1), kind, items, part_of)


def _seed(seed: int, kind: str) -> int:
    return int.from_bytes(sha256(f"{seed}|{kind}".encode()).digest()[:7], "big")
