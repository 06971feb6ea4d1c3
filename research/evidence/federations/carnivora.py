"""Images, texts, DNA and tables of four families of Carnivora: the demo's data, dealt to more sites.

Concept = family. The text sites never see a label of a marten, and there are no silhouettes of martens. All of
the demo's data is used; it is small (two bears in the table), so only images, DNA and texts feed several sites.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from fedgram.config.job import BackboneConfig
from fedgram.data.sequences import read_records
from fedgram.data.tables import read_table
from fedgram.demo.names import locate

from research.evidence.federations import EVEN, Federation
from research.evidence.federations.assemble import assemble
from research.evidence.federations.brief import TEXT
from research.evidence.federations.items import Item, Pool, Source

NAME = "carnivora"
UNSEEN = frozenset({"Mustelidae"})
_ANCHORS = ("demo:carnivora/anchors/train", "demo:carnivora/anchors/heldout")
_BACKBONE = BackboneConfig("minilm", layers=2)


def build(folder: Path, *, sites: int = 4, alpha: float = EVEN, seed: int = 0) -> Federation:
    """The federation ``carnivora``, written below ``folder``.

    Raises:
        ConfigError: too few data for so many sites.
    """
    return assemble(NAME, folder, pools(folder), _ANCHORS, _BACKBONE, sites=sites, alpha=alpha, seed=seed)


def source(folder: Path) -> Source:
    """The data and anchors of the package."""
    return Source(tuple(pools(folder)), _ANCHORS, _BACKBONE)


def pools(folder: Path) -> list[Pool]:
    """The pools of the data that the package embeds, without the demo's own division into sites."""
    cache = folder / "cache"

    def table(name: str) -> pd.DataFrame:
        return read_table(locate(f"demo:carnivora/{name}", cache))

    text, tabular = table("text"), table("tabular")
    genomics = locate("demo:carnivora/genomics", cache)
    labels = read_table(genomics.with_suffix(".csv")).set_index("id")
    features = [c for c in tabular.columns if c not in ("id", "concept", "group")]
    dna = [
        Item(name, str(labels.at[name, "concept"]), str(labels.at[name, "group"]), sequence)
        for name, sequence in read_records(genomics).items()
    ]
    images = [
        Item(path.stem, path.parent.name, path.stem, path.read_bytes())
        for path in sorted(locate("demo:carnivora/image", cache).glob("*/*.png"))
    ]
    texts = [Item(row["id"], row["concept"], row["group"], row["text"]) for row in text.to_dict("records")]
    rows = [
        Item(row["id"], row["concept"], row["group"], {name: row[name] for name in features})
        for row in tabular.to_dict("records")
    ]
    return [
        Pool("image", "image", "efficientnet-lite0", tuple(images)),
        Pool("text", TEXT, "minilm", tuple(texts), UNSEEN),
        Pool("genomics", "genomics", "kmer", tuple(dna)),
        Pool("tabular", "tabular", "numeric", tuple(rows)),
    ]
