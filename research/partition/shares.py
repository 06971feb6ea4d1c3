"""Questions and captions dealt to sites: by a Dirichlet over what they are about, or by an explicit list."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram.data.items import Caption, Question
from fedgram.data.tables import read_table, require_column, require_filled, require_rows, require_unique
from fedgram.errors import ConfigError, DataError

from research.partition.dirichlet import Group, partition
from research.partition.writing import write_captions, write_vqa

BY = ("kind", "concept")
CAPTION = "caption"  # the kind of all captions
_SUBTYPES = {"": "all", "train": "train", "validation": "val", "test": "test"}
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Item = Question | Caption


@dataclass(frozen=True)
class Share:
    """The questions and captions of one site."""

    questions: tuple[Question, ...]
    captions: tuple[Caption, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.questions, *self.captions)


def deal(
    questions: Sequence[Question], captions: Sequence[Caption], sites: int, alpha: float, seed: int, by: str
) -> dict[str, Share]:
    """Deal questions and captions to ``site-1``, ``site-2`` …, about as many to each.

    ``by="kind"`` mixes answer types (captions are one of them), each item on its own: a picture may come to
    several sites. ``by="concept"`` mixes concepts, and all that is said of a picture stays together. Every site
    has five training items at least; where the data name test items, every site has some. The result depends on
    ids, α and seed, not on the order of the items.

    Sites have equal sizes, which bounds how far their mixtures can part: over VQA's three answer types and α = 0.1
    the total variation from the whole is 0.3 to 0.4, where dealing each type by a Dirichlet over sites gives 0.55,
    with every tenth site empty (0.21 of 16 sites). Over six shapes the two are close from α = 0.5 on.

    Args:
        alpha: 0.1 gives sites of nearly one kind, ``inf`` deals evenly.

    Raises:
        ConfigError: an unknown ``by``, α not positive, fewer than one site, or more sites than the data can feed.
        DataError: no items, an id that is there twice, an item without concept, or a picture in two splits.
    """
    if by not in BY:
        raise ConfigError(f"{by!r}", where="by", expected=" or ".join(BY))
    if sites < 1:
        raise ConfigError(f"{sites}", where="sites", expected="at least 1")
    items = _named(questions, captions)
    together = _by_picture(items) if by == "concept" else {name: [name] for name in items}
    groups = [_group(name, [items[n] for n in members], by) for name, members in together.items()]
    tested = any(group.part == "test" for group in groups)
    site_of = partition(groups, sites, alpha, seed, concepts=1, tested=tested)
    placed = {member: f"site-{site_of[name] + 1}" for name, members in together.items() for member in members}
    return _shares(items, placed, [f"site-{number}" for number in range(1, sites + 1)])


def deal_by_list(questions: Sequence[Question], captions: Sequence[Caption], path: Path) -> dict[str, Share]:
    """Deal questions and captions as a table says, whose columns are ``id`` and ``site``.

    An id that a question and a caption share names both.

    Raises:
        DataError: no items, an id of theirs or of the table that is there twice or has no counterpart, or the name
            of a site that cannot be that of a folder.
    """
    items = _named(questions, captions)
    table = read_table(path)
    ids = require_filled(require_column(table, "id", path, "id"), path).tolist()
    sites = require_filled(require_column(table, "site", path, "site"), path).tolist()
    require_unique(ids, path, "row")
    known = {item.id for item in items.values()}
    require_rows([i in known for i in ids], path, "no question or caption has this id")
    require_rows(
        [_FOLDER.fullmatch(site) is not None for site in sites],
        path,
        "not a name for a site",
        expected="letters, digits, dots, dashes and underscores; the first a letter or digit",
    )
    site_of = dict(zip(ids, sites, strict=True))
    missing = len(known - site_of.keys())
    if missing:
        raise DataError(f"{missing} questions or captions have no site", where=path, expected="a row for each id")
    return _shares(items, {name: site_of[item.id] for name, item in items.items()}, sorted(set(sites)))


def counts(shares: Mapping[str, Share], by: str) -> dict[str, Counter[str]]:
    """The number of items of each kind or concept at each site."""
    return {site: Counter(_about(item, by) for item in share.items) for site, share in shares.items()}


def write_shares(folder: Path, shares: Mapping[str, Share]) -> None:
    """Write a folder for each site: its questions in VQA v2's format, its captions as a table, and the pictures.

    Raises:
        ConfigError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("not empty", where=folder, expected="a new folder", remedy="name another, or empty it")
    for site, share in shares.items():
        for split, subtype in _SUBTYPES.items():
            own = [q for q in share.questions if q.split == split]
            if own:
                write_vqa(folder / site, subtype, own)
        if share.captions:
            write_captions(folder / site, share.captions)


def _named(questions: Iterable[Question], captions: Iterable[Caption]) -> dict[str, Item]:
    """Items by a name of their own, in the order of the names: questions and captions may have the same ids."""
    named: dict[str, Item] = {}
    for what, items in (("question", questions), (CAPTION, captions)):
        for item in items:
            if f"{what} {item.id}" in named:
                raise DataError(f"two {what}s have one id", where="partition", expected="ids of their own")
            named[f"{what} {item.id}"] = item
    if not named:
        raise DataError("nothing to deal", where="partition", expected="questions or captions")
    return dict(sorted(named.items()))


def _by_picture(items: Mapping[str, Item]) -> dict[str, list[str]]:
    """Names of items by the first name that says something of the same picture."""
    first: dict[Path, str] = {}
    together: dict[str, list[str]] = defaultdict(list)
    for name, item in items.items():
        together[first.setdefault(item.image, name)].append(name)
    return together


def _group(name: str, members: Sequence[Item], by: str) -> Group:
    splits = {member.split for member in members}
    if len(splits) > 1:
        raise DataError("a picture is in two splits", where=f"partition, {name}", expected="one split a picture")
    found = Counter(_about(member, by) for member in members)
    about = min(found, key=lambda word: (-found[word], word))
    if not about:
        raise DataError(
            "no concept", where=f"partition, {name}", expected="a concept for each item, or `kind` to deal by"
        )
    return Group(name, about, splits.pop() or "train", len(members))


def _about(item: Item, by: str) -> str:
    if by == "concept":
        return item.concept
    return item.kind if isinstance(item, Question) else CAPTION


def _shares(items: Mapping[str, Item], site_of: Mapping[str, str], sites: Sequence[str]) -> dict[str, Share]:
    own: dict[str, list[Item]] = {site: [] for site in sites}
    for name, item in items.items():
        own[site_of[name]].append(item)
    return {
        site: Share(
            tuple(item for item in found if isinstance(item, Question)),
            tuple(item for item in found if isinstance(item, Caption)),
        )
        for site, found in own.items()
    }
