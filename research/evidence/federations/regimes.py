"""Regimes in which a federation may pay: few labels, many sites, foreign anchors, and the very thing.

Each function writes ordinary site files below ``folder``, once, and describes them. A seed redraws the split, by
group; the made world too. Classes with fewer than 20 test samples over the sites of their modality are trained on
where data allow it, and not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedgram.errors import ConfigError

from research.evidence.federations import EVEN, Federation, carnivora, digits, emoji, many, pathogens, sharing
from research.evidence.federations.items import Item, Pool, Source
from research.evidence.federations.sharing import LEAST_TESTED, MOST_TESTED, Share
from research.partition.dirichlet import Group, partition

SITES = 8
SHOTS = (1, 2, 4, 8)
RICH = {"carnivora": "image", "digits": "image", "emoji": "image", "pathogens": "genomics", "synthetic": "radar"}
_MANY, _MOST_OF_MANY = 4, 20  # training samples of a class and site where sites are many, and test samples
_FULL = 8  # training samples of a class and site where labels are not few
_VALIDATED = 2  # samples of a class and site at least
_PAIRS = 200, 60  # training and held-out anchors of emoji that are things


@dataclass(frozen=True, kw_only=True)
class Regime:
    """A federation, and what is known about it beyond its files.

    Attributes:
        federation: sites and anchors.
        unseen: concepts without a label at the sites of a modality, nor in any anchor; by modality.
        thing: what a sample shows, by its id, where that is known: equal at two sites for one and the same thing.
        fine: the fine class of each thing.
    """

    federation: Federation
    unseen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thing: Mapping[str, str] = field(default_factory=dict)
    fine: Mapping[str, str] = field(default_factory=dict)


def few_labels(name: str, folder: Path, *, shots: int, seed: int) -> Regime:
    """Eight sites of all modalities that have data for it, each with a few labels of each class.

    Who has what: ``shots`` training samples of a class at each site, at least 2 and where data allow ``shots`` to
    validate, up to 40 to test; anchors of the tasks' concepts. A modality has as many sites as give two classes
    20 test samples; one that cannot is left out.

    Raises:
        ConfigError: no such federation or number of shots.
        DataError: no registry.
    """
    if shots not in SHOTS:
        raise ConfigError(f"{shots}", where="shots", expected=", ".join(map(str, SHOTS)))
    home, source = _source(name, folder, seed, 128)
    found = _of_things(source, SITES, shots, seed) if source.things else _few(source, shots, seed)
    return _regime(f"{name}, {shots} shots", home, source, found)


def many_sites(name: str, folder: Path, *, sites: int, alpha: float = EVEN, seed: int) -> Regime:
    """Many sites of one modality, :data:`RICH`, with 4 training samples a class each on average.

    Who has what: 4 · ``sites`` samples of every class to train on and as many to validate, fewer where data are
    short, dealt evenly or by a Dirichlet with at least 4 of two classes at each site; up to 20 · ``sites`` to
    test; anchors of the tasks' concepts. Classes without so many data are left out. Of emoji, sites have
    both vendors.

    Raises:
        ConfigError: no such federation, or too few data for so many sites.
        DataError: no registry.
    """
    home, source = _source(name, folder, seed, (2 * _MANY + _MOST_OF_MANY) * sites)
    pools = [pool for pool in source.pools if pool.kind == RICH[name]]
    items = [i for pool in pools for i in pool.items]
    needs = [("train", _MANY * sites), ("test", LEAST_TESTED), ("validation", _MANY * sites)]
    parts = sharing.split(items, needs, seed)
    least = {"train": _MANY * sites, "validation": sites, "test": LEAST_TESTED}
    most = {"train": _MANY * sites, "validation": _MANY * sites, "test": _MOST_OF_MANY * sites}
    kept = [
        c for c in sharing.concepts_of(items) if all(len(sharing.of(parts[p], c)) >= n for p, n in least.items())
    ]
    if len(kept) < 2:
        raise ConfigError(f"{sites}", where="sites", expected=f"fewer: {len(kept)} classes have enough data")
    chosen = {p: [i for c in kept for i in sharing.of(parts[p], c)[: most[p]]] for p in parts}
    groups = [Group(i.id, i.concept, p, 1) for p, own in chosen.items() for i in own]
    site_of = partition(groups, sites, alpha, seed, least=_MANY)
    shares = {
        f"{RICH[name]}-{k + 1}": Share(pools[0], {p: [i for i in chosen[p] if site_of[i.id] == k] for p in chosen})
        for k in range(sites)
    }
    return _regime(f"{name}, {sites} sites, α = {alpha}", home, source, shares)


def foreign_anchors(name: str, folder: Path, *, seed: int) -> Regime:
    """Anchors of other concepts than the tasks', many of them; each modality lacks labels of some concepts.

    Who has what: synthetic, two sites of each of four modalities, six concepts, 192 slots of 48 others, 4 each;
    emoji, four sites (two vendors, English and Spanish), twelve classes, 200 slots of others that show one thing
    to both modalities. 8 training samples a class and site. The sites of a modality have no label of ``unseen``, a
    third of the concepts at most, of which those of all other modalities have; no anchor shows any of them.

    Raises:
        ConfigError: another federation than these two.
        DataError: no registry.
    """
    if name == "synthetic":
        home, source = many.source(folder, many.Plan(seed=seed, samples=128, slots=(4, 1), foreign=48))
        found = _even(source, 2, _FULL, seed)
    elif name == "emoji":
        home, source = _emoji(folder, lambda thing: thing.concept not in emoji.CLASSES, ("en", "es"))
        found = _of_things(source, 4, _FULL, seed)
    else:
        raise ConfigError(f"{name!r}", where="foreign anchors", expected="synthetic or emoji")
    unseen = _unseen(source)
    shares = {
        site: Share(
            s.pool, s.parts, tuple(sorted(set(sharing.concepts_of(s.parts["train"])) - {*unseen[s.pool.kind]}))
        )
        for site, s in found.items()
    }
    return _regime(f"{name}, foreign anchors", home, source, shares, unseen)


def very_thing(name: str, folder: Path, *, seed: int) -> Regime:
    """Anchors that show one thing to every modality, and test samples that do so too, which nobody has paired.

    Who has what: synthetic, one site of each of four modalities, six concepts, 180 slots; emoji, four sites (two
    vendors, English and Spanish), twelve classes, 200 slots of things of any class. Up to 8 training samples a
    class and site, of things that no other modality trains on. All sites are tested on the same things, up to 40 a
    class: ``thing`` says which sample shows which, ``fine`` of what fine class that is.

    Raises:
        ConfigError: another federation than these two.
        DataError: no registry.
    """
    if name == "synthetic":
        home, source = many.source(folder, many.Plan(seed=seed, samples=96, slots=(30, 10), things=True))
        found = _of_things(source, 4, _FULL, seed, apart=True)
    elif name == "emoji":
        home, source = _emoji(folder, lambda thing: True, ("en", "es"))
        found = _of_things(source, 4, _FULL, seed, apart=True)
    else:
        raise ConfigError(f"{name!r}", where="the very thing", expected="synthetic or emoji")
    return _regime(f"{name}, the very thing", home, source, found)


def _source(name: str, folder: Path, seed: int, samples: int) -> tuple[Path, Source]:
    """The data of a federation, with anchors as they are today; of a made one so many samples of a class."""
    sources: Mapping[str, Callable[[], tuple[Path, Source]]] = {
        "carnivora": lambda: (folder, carnivora.source(folder)),
        "digits": lambda: (folder, digits.source(folder, 500)),
        "emoji": lambda: (folder, emoji.source(folder)),
        "pathogens": lambda: (folder, pathogens.source(folder, 400)),
        "synthetic": lambda: many.source(folder, many.Plan(seed=seed, samples=samples)),
    }
    if name not in sources:
        raise ConfigError(f"{name!r}", where="federation", expected=", ".join(sources))
    return sources[name]()


def _emoji(folder: Path, public: Callable[[emoji.Thing], bool], locales: Sequence[str]) -> tuple[Path, Source]:
    return folder, emoji.paired_source(folder, public, _PAIRS, locales)


def _regime(
    title: str,
    home: Path,
    source: Source,
    shares: Mapping[str, Share],
    unseen: Mapping[str, tuple[str, ...]] | None = None,
) -> Regime:
    federation = sharing.write(title, home, source, shares)
    items = [i for s in shares.values() for own in s.parts.values() for i in own] if source.things else []
    return Regime(
        federation=federation, unseen=unseen or {}, thing={i.id: i.group for i in items}, fine=dict(source.fine)
    )


def _few(source: Source, shots: int, seed: int) -> dict[str, Share]:
    """Sites of all modalities in turn, until there are :data:`SITES` or no data for another."""
    dealt: dict[str, list[Share]] = {pool.kind: [] for pool in source.pools}
    waiting = list(source.pools)
    while waiting and sum(map(len, dealt.values())) < SITES:
        pool = min(waiting, key=lambda pool: len(dealt[pool.kind]))
        more = _dealt(pool, len(dealt[pool.kind]) + 1, shots, seed)
        if more:
            dealt[pool.kind] = more
        else:
            waiting.remove(pool)
    return {f"{kind}-{k + 1}": share for kind, own in dealt.items() for k, share in enumerate(own)}


def _even(source: Source, sites: int, shots: int, seed: int) -> dict[str, Share]:
    return {
        f"{pool.kind}-{k + 1}": share
        for pool in source.pools
        for k, share in enumerate(_dealt(pool, sites, shots, seed))
    }


def _dealt(pool: Pool, sites: int, shots: int, seed: int) -> list[Share]:
    """So many sites of one modality, none where fewer than two classes can be measured."""
    validated = max(_VALIDATED, shots)
    least = _VALIDATED * sites
    needs = [
        ("train", shots * sites),
        ("validation", least),
        ("test", LEAST_TESTED),
        ("validation", validated * sites),
    ]
    parts = sharing.split(pool.items, needs, seed)
    shares: list[dict[str, list[Item]]] = [{part: [] for part in parts} for _ in range(sites)]
    measured = 0
    for concept in sharing.concepts_of(pool.items):
        own = {part: sharing.of(parts[part], concept) for part in parts}
        most = min(validated, len(own["validation"]) // sites)
        if len(own["train"]) < shots * sites or most < _VALIDATED:
            continue
        measured += len(own["test"]) >= LEAST_TESTED
        for k, share in enumerate(shares):
            share["train"] += own["train"][k * shots : (k + 1) * shots]
            share["validation"] += own["validation"][k * most : (k + 1) * most]
            share["test"] += own["test"][k::sites][:MOST_TESTED]
    return [Share(pool, share) for share in shares] if measured >= 2 else []


def _of_things(source: Source, sites: int, shots: int, seed: int, *, apart: bool = False) -> dict[str, Share]:
    """Sites of modalities that see the same things: a thing is on one side of the split whoever sees it.

    Half of the things of a class, 20 to 40, are tested, at all sites; the rest are validated and trained on.
    Sites begin at different things, and with ``apart`` modalities have none in common.
    """
    kinds = list(dict.fromkeys(pool.kind for pool in source.pools))
    views = {kind: [pool for pool in source.pools if pool.kind == kind] for kind in kinds}
    each, validated = sites // len(kinds), max(_VALIDATED, shots)
    shares: dict[str, Share] = {}
    for j, kind in enumerate(kinds):
        many_views = len(views[kind])
        for k in range(each):
            pool = views[kind][k % many_views]
            n = j * each + k % many_views * max(1, each // many_views) + k // many_views  # one view, then the next
            parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
            for concept in sharing.concepts_of(pool.items):
                own = [rows[0] for rows in sharing.by_group(sharing.of(pool.items, concept), seed)]
                tested = min(MOST_TESTED, max(LEAST_TESTED, len(own) // 2))
                parts["test"] += own[:tested]
                rest = own[tested:]
                kept = max(validated, min(validated * sites, len(rest) // 2))
                checked, learnt = rest[:kept], rest[kept:]
                if apart:
                    checked, learnt = checked[j :: len(kinds)], learnt[j :: len(kinds)]
                parts["validation"] += _turn(checked, n * validated, validated)
                parts["train"] += _turn(learnt, n * shots, shots)
            shares[f"{kind}-{k + 1}"] = Share(pool, parts)
    return shares


def _turn(items: Sequence[Item], start: int, number: int) -> list[Item]:
    """So many items from a place on, beginning again at the end, none twice."""
    return [items[(start + i) % len(items)] for i in range(min(number, len(items)))]


def _unseen(source: Source) -> dict[str, tuple[str, ...]]:
    """A part of the concepts for each modality, each concept for one modality at most."""
    kinds = list(dict.fromkeys(pool.kind for pool in source.pools))
    concepts = sharing.concepts_of(source.pools[0].items)
    most = max(1, len(concepts) // 3)
    return {kind: tuple(concepts[j :: len(kinds)][:most]) for j, kind in enumerate(kinds)}
