"""One site's data, spoilt on purpose: its training and validation data, so that the test stays a fair measure."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from fedgram.config.site import SiteConfig
from fedgram.data.sequences import read_records
from fedgram.data.tables import read_table
from PIL import Image

from research.evidence.federations import Federation, kind_of
from research.evidence.federations.once import once
from research.evidence.federations.sitefiles import LABELS, TABLE, data_of, write_csv, write_fasta

_SHARE = 0.5  # of the bases, words, pixels or cells of a noisy site that are replaced

Spoil = Callable[[pd.DataFrame, Path, Path, np.random.Generator], pd.DataFrame]


def noisy_site(federation: Federation, folder: Path, site: str, seed: int = 0) -> Federation:
    """A federation with a noisy site: half of its bases, pixels, words or cells are replaced."""
    spoil = {"genomics": _spoil_dna, "image": _spoil_images, "text": _spoil_texts}.get(kind_of(site), _spoil_rows)
    return _spoilt(federation, folder, site, "noisy", seed, spoil)


def mislabelled_site(federation: Federation, folder: Path, site: str, seed: int = 0) -> Federation:
    """A federation with a mislabelled site: its labels for training and validation are dealt anew."""

    def spoil(table: pd.DataFrame, _: Path, __: Path, generator: np.random.Generator) -> pd.DataFrame:
        table = table.copy()
        for part in ("train", "validation"):
            rows = (table["split"] == part).to_numpy()
            table.loc[rows, "concept"] = generator.permutation(table.loc[rows, "concept"].to_numpy(object))
        return table

    return _spoilt(federation, folder, site, "mislabelled", seed, spoil)


def _spoilt(federation: Federation, folder: Path, site: str, how: str, seed: int, spoil: Spoil) -> Federation:
    config = federation.sites[site]
    source = _folder(config)
    generator = np.random.default_rng(int.from_bytes(sha256(f"{seed}|{how}|{site}".encode()).digest()[:7], "big"))

    def write(fresh: Path) -> None:
        fresh.mkdir()
        for file in source.iterdir():
            (fresh / file.name).write_bytes(file.read_bytes())
        table = spoil(read_table(source / TABLE), source, fresh, generator)
        write_csv(fresh / TABLE, table.columns, table.to_numpy().tolist())

    target = once(folder / "spoilt" / f"{how}-{site}-{seed}-{source.parent.name}", write)
    data, labels = data_of(target, kind_of(site))
    changed = replace(config, data=data, labels=labels)
    return replace(federation, name=f"{federation.name}, {how} {site}", sites={**federation.sites, site: changed})


def _folder(config: SiteConfig) -> Path:
    return Path(config.data).parent


def _spoil_dna(table: pd.DataFrame, source: Path, fresh: Path, generator: np.random.Generator) -> pd.DataFrame:
    spared = set(table.loc[table["split"] == "test", "id"])

    def mutated(sequence: str) -> str:
        bases = np.array(list(sequence))
        hit = generator.random(len(bases)) < _SHARE
        bases[hit] = generator.choice(list("ACGT"), size=int(hit.sum()))
        return "".join(bases)

    records = read_records(source / "data.fasta")
    write_fasta(fresh / "data.fasta", {n: s if n in spared else mutated(s) for n, s in records.items()})
    return table


def _spoil_images(table: pd.DataFrame, source: Path, fresh: Path, generator: np.random.Generator) -> pd.DataFrame:
    for name in table.loc[table["split"] != "test", "path"]:
        with Image.open(source / name) as image:
            pixels = np.array(image)
        hit = generator.random(pixels.shape) < _SHARE
        pixels[hit] = generator.integers(0, 256, size=int(hit.sum()))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=0)
        (fresh / name).write_bytes(file.getvalue())
    return table


def _spoil_texts(table: pd.DataFrame, _: Path, __: Path, generator: np.random.Generator) -> pd.DataFrame:
    table = table.copy()
    rows = table["split"] != "test"
    words = np.array(sorted(" ".join(table.loc[rows, "text"]).split()))

    def garbled(text: str) -> str:
        own = text.split()
        return " ".join(w if generator.random() >= _SHARE else str(generator.choice(words)) for w in own)

    table.loc[rows, "text"] = [garbled(text) for text in table.loc[rows, "text"]]
    return table


def _spoil_rows(table: pd.DataFrame, _: Path, __: Path, generator: np.random.Generator) -> pd.DataFrame:
    table = table.copy()
    rows = np.flatnonzero((table["split"] != "test").to_numpy())
    for column in [c for c in table.columns if c not in LABELS]:
        hit = rows[generator.random(len(rows)) < _SHARE]
        cells = table[column].to_numpy(object).copy()
        cells[hit] = generator.permutation(cells[hit])
        table[column] = cells
    return table
