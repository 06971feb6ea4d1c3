"""Pictures and words of the same things: twelve classes of emoji. Needs npm and its registry, once.

Concept = a class, of one or more subcategories (:data:`~.emoji_sources.CLASSES`): 41 to 110 things each, 725 in
all; some 700 things of 50 further subcategories are for other regimes. Group = the thing: it is on one side of the
split, and never an anchor as well, whatever the vendor or language. Pictures: two vendors, 64 px on white. Words:
name and keywords in four languages. Slot j of a concept shows one thing to both modalities. The text sites never
see a label of a vehicle. Artwork and Unicode data have licences of their own and are never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fedgram.config.job import BackboneConfig

from research.evidence.federations import EVEN, Federation
from research.evidence.federations.assemble import assemble
from research.evidence.federations.brief import WORDS
from research.evidence.federations.drawing import PARTS, Drawn, write_drawn
from research.evidence.federations.emoji_sources import CLASSES, LOCALES, VENDORS, Thing, read_things
from research.evidence.federations.items import Item, Pool, Source, ranked

NAME = "emoji"
UNSEEN = frozenset({"vehicle"})
BACKBONE = BackboneConfig("minilm", layers=2)
SOURCES = {
    "image": ("OFL-1.1 (google)", "emoji-datasource-google 16.0.0"),
    "text": ("Unicode-3.0", "cldr-annotations-full 48.2.0"),
}
_SLOTS = 2  # a concept
_LOCALES = LOCALES[:4]


def build(folder: Path, *, sites: int = 4, alpha: float = EVEN, seed: int = 0) -> Federation:
    """The federation ``emoji``, written below ``folder``.

    Raises:
        DataError: no registry.
        ConfigError: too few data for so many sites.
    """
    things = [thing for thing in read_things(folder) if thing.concept in CLASSES]
    public, private = apart(things, _SLOTS)
    drawn = {"image": drawn_of(public, "google"), "text": drawn_of(public, "en")}
    pools = [pool("image", private, VENDORS), pool("text", private, _LOCALES, UNSEEN)]
    anchors = write_drawn(folder, NAME, drawn, SOURCES)
    return assemble(NAME, folder, pools, anchors, BACKBONE, sites=sites, alpha=alpha, seed=seed)


def source(folder: Path) -> Source:
    """The twelve classes as two vendors draw and four languages name them, with the anchors of :func:`build`."""
    public, private = apart([thing for thing in read_things(folder) if thing.concept in CLASSES], _SLOTS)
    return _source(folder, NAME, public, private, _LOCALES)


def paired_source(
    folder: Path, public: Callable[[Thing], bool], slots: tuple[int, int], locales: Sequence[str]
) -> Source:
    """The twelve classes with many anchors, each one thing to both modalities.

    Args:
        public: whether a thing may be an anchor.
        slots: things that train and that measure.
        locales: languages of the texts.
    """
    order = _ranked(read_things(folder))
    chosen = [thing for thing in order if public(thing)][: sum(slots)]
    taken = {thing.code for thing in chosen}
    drawn: dict[str, list[Thing]] = dict(zip(PARTS, (chosen[: slots[0]], chosen[slots[0] :]), strict=True))
    private = [thing for thing in order if thing.concept in CLASSES and thing.code not in taken]
    return _source(folder, f"{NAME}-pairs", drawn, private, locales)


def _source(
    folder: Path, name: str, public: dict[str, list[Thing]], private: Sequence[Thing], locales: Sequence[str]
) -> Source:
    drawn = {"image": drawn_of(public, "google"), "text": drawn_of(public, "en")}
    views = [*(("image", vendor) for vendor in VENDORS), *(("text", locale) for locale in locales)]
    return Source(
        tuple(pool(kind, private, (view,)) for kind, view in views),
        write_drawn(folder, name, drawn, SOURCES),
        BACKBONE,
        things=True,
        fine={thing.code: thing.fine for thing in private},
    )


def apart(things: Iterable[Thing], slots: int) -> tuple[dict[str, list[Thing]], list[Thing]]:
    """Things that become anchors, so many of each class, by part; and the rest."""
    rest = _ranked(things)
    public: dict[str, list[Thing]] = {}
    for part in PARTS:
        public[part] = [thing for c in sorted({t.concept for t in rest}) for thing in _of(rest, c)[:slots]]
        taken = {thing.code for thing in public[part]}
        rest = [thing for thing in rest if thing.code not in taken]
    return public, rest


def drawn_of(public: dict[str, list[Thing]], view: str) -> Drawn:
    """Anchors as a vendor draws or a language names them."""
    return Drawn(
        {
            part: {c: [item(thing, view) for thing in _of(own, c)] for c in sorted({t.concept for t in own})}
            for part, own in public.items()
        },
        (),
    )


def pool(kind: str, things: Sequence[Thing], views: Iterable[str], unseen: frozenset[str] = frozenset()) -> Pool:
    """The pool of a modality: every thing as each of these vendors or languages has it."""
    items = tuple(item(thing, view) for view in views for thing in things)
    modality, tokenizer = ("image", "efficientnet-lite0") if kind == "image" else (WORDS, "minilm")
    return Pool(kind, modality, tokenizer, items, unseen)


def item(thing: Thing, view: str) -> Item:
    """A thing as a vendor draws it, or a language names it."""
    content = thing.pictures[view] if view in VENDORS else thing.words[view]
    return Item(f"{view}-{thing.code}", thing.concept, thing.code, content)


def _of(things: Iterable[Thing], concept: str) -> list[Thing]:
    return [thing for thing in things if thing.concept == concept]


def _ranked(things: Iterable[Thing]) -> list[Thing]:
    found = {thing.code: thing for thing in things}
    order = ranked(Item(code, thing.concept, code, None) for code, thing in found.items())
    return [found[i.id] for i in order]
