"""The embedded demo federations: small, unpaired data that come with the package."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from fedgram.demo.few import kind_of, splits_by_site, write_site
from fedgram.errors import DataError

_HERE = Path(__file__).resolve().parent
_SITE_DATA = {
    "carnivora/image": "carnivora/image.zip",
    "carnivora/text": "carnivora/text.csv",
    "carnivora/text_masked": "carnivora/text_masked.csv",
    "carnivora/genomics": "carnivora/genomics.fasta",
    "carnivora/tabular": "carnivora/tabular.csv",
}
_FEW = "carnivora/few"  # the same data, dealt to sites with few labels each
_WORKSPACES = {
    "few-labels": "simulator-few",
    "fedumm": "simulator-fedumm",
    "fedumm-mixed": "simulator-fedumm",
}  # of jobs, where their sites are: folders of provisioning/
_ANCHORS = tuple(f"{name}/anchors/{part}" for name in ("carnivora", "scenes") for part in ("train", "heldout"))


def embedded(name: str, cache: Path) -> Path:
    """The file or folder of a site's data that a name of embedded data stands for.

    Args:
        name: ``demo:carnivora/image``, ``demo:carnivora/anchors/train``, ``demo:fedumm/site-1`` …
        cache: the folder in which archives are unpacked, once.

    Raises:
        DataError: no such demo data.
    """
    key = name.removeprefix("demo:")
    if key in _ANCHORS:
        return _anchors(key)
    if key in _SITE_DATA:
        path = _HERE / _SITE_DATA[key]
        return _unpacked(path, cache / "demo") if path.suffix == ".zip" else path
    if key.startswith(f"{_FEW}/") and (dealt := _dealt(key.removeprefix(f"{_FEW}/"), cache)) is not None:
        return dealt
    federation, _, inside = key.partition("/")
    if federation == "fedumm" and (path := _unpacked(_HERE / "fedumm.zip", cache / "demo") / inside).exists():
        return path
    few = f"{_FEW}/image-1, {_FEW}/text-1 …"
    known = (*_SITE_DATA, *_ANCHORS, few, "fedumm/site-1 to site-4", "fedumm/prompts.jsonl")
    raise DataError("no such demo data", where=name, expected=", ".join(f"demo:{key}" for key in known))


def site_files(job: str) -> dict[str, str]:
    """The site files of a demo, by site, as text.

    Args:
        job: the name of a job folder, or of a method that runs over the same sites as `jobs/geodora`.
    """
    name = _WORKSPACES.get(job, "simulator")
    inside = _HERE / "sites" / name
    folder = inside if inside.is_dir() else _HERE.parents[2] / "provisioning" / name / "local" / "fedgram"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.toml"))}


def _anchors(key: str) -> Path:
    """A wheel carries the anchor sets inside the package, a clone has them at its top."""
    federation, _, part = key.split("/")
    inside = _HERE / "anchors" / federation / part
    return inside if inside.is_dir() else _HERE.parents[2] / "anchors" / federation / part


def _unpacked(archive: Path, folder: Path) -> Path:
    """The archive's content."""

    def extract(temporary: Path, _: Path) -> None:
        with zipfile.ZipFile(archive) as content:
            content.extractall(temporary)

    return _once(archive, folder, extract)


def _dealt(site: str, cache: Path) -> Path | None:
    """The data of a site with few labels; None where there is no such site."""
    table = _HERE / f"{_FEW}.csv"
    found = splits_by_site(table)
    if site not in found:
        return None
    sources = {name: embedded(f"carnivora/{kind_of(name)}", cache) for name in found}

    def deal(temporary: Path, target: Path) -> None:
        for name, splits in found.items():
            write_site(name, splits, sources[name], temporary, target)

    folder = _once(table, cache / "demo", deal)
    return folder / f"{site}{sources[site].suffix or '.csv'}"


def _once(source: Path, folder: Path, make: Callable[[Path, Path], None]) -> Path:
    """A folder by the hash of a file; whoever makes it first wins, a half-made folder is never seen.

    Args:
        make: called with an empty folder, and with the one that it will be.
    """
    target = folder / f"{source.stem}-{sha256(source.read_bytes()).hexdigest()[:16]}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder))
    try:
        make(temporary, target)
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary)
        if not target.is_dir():  # otherwise another process was first
            raise
    return target
