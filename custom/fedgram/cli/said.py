"""The words of `fedgram init`: how files are named, and what is said for one site or for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram.errors import ConfigError

KNOWN = ("image", "text", "genomics", "tabular", "audio")
ANCHORS = "anchors"  # stands for a site's name where something is said for the public files
_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True)
class Entry:
    """A file as the user names it.

    Attributes:
        name: of the site.
        modality: where it is said.
        path: of the data.
    """

    name: str
    modality: str | None
    path: Path


def entry_of(said: str) -> Entry:
    """Read a site as it is named on the command line; a path alone gives it the name of its file.

    Raises:
        ConfigError: no such path.
    """
    if Path(said).exists():
        return Entry(_plain(Path(said)), None, Path(said))
    first, _, rest = said.partition(":")
    if not rest:
        raise ConfigError("no such file or folder", where=said, expected="PATH, NAME:PATH or NAME:MODALITY:PATH")
    modality, path = modality_of(rest)
    if modality is None and first in KNOWN:
        return Entry(_plain(Path(path)), first, Path(path))
    return Entry(first, modality, Path(path))


def modality_of(said: str) -> tuple[str | None, str]:
    """Part ``MODALITY:PATH``; the modality of another package has a colon itself."""
    *parts, path = [said] if Path(said).exists() else said.rsplit(":", 1)
    return (parts[0] if parts else None), path


def _plain(path: Path) -> str:
    return _NAME.sub("-", path.name.split(".")[0].lower()).strip("-") or "site"


def by_site(option: str, values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Sort an option's values by the site that they are said for (``SITE=VALUE``), under "" for all.

    Args:
        option: its name, for messages.
        names: that it may be said for, "" among them if it may be said for all.

    Raises:
        ConfigError: another name, no value, or two for one site.
    """
    found: dict[str, str] = {}
    for said in values:
        head, equals, tail = said.partition("=")
        name, value = (head, tail) if equals else ("", said)
        problem = "no value" if not value else "said twice" if name in found else ""
        if name not in names:
            problem = f"no site {name!r}" if name else "for no site"
        if problem:
            raise ConfigError(
                problem,
                where=f"--{option} {said}",
                expected=", ".join(f"{one}=VALUE" if one else "VALUE for all" for one in names),
                remedy="correct the site; a column with = in its name needs SITE= before it",
            )
        found[name] = value
    return found


def said_for(name: str, hints: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Gather what is said for a site by itself or, where nothing is, for all."""
    found = {what: by_name.get(name, by_name.get("")) for what, by_name in hints.items()}
    return {what: value for what, value in found.items() if value is not None}
