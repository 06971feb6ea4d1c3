"""Pictures of two vendors and names in many languages of the same things, read from npm packages."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from research.evidence.federations.fetch import fetch_tarball
from research.evidence.federations.once import once

VENDORS = {
    "google": "emoji-datasource-google@16.0.0",
    "twitter": "emoji-datasource-twitter@16.0.0",
}
NAMES = "cldr-annotations-full@48.2.0"
LOCALES = ("en", "de", "fr", "es", "it", "nl", "pl", "sv", "pt", "da", "fi", "cs", "ro", "hu", "hr", "no")
_LEFT_OUT = ("Flags", "Component")  # flags of countries, skin tones
_KEYWORDS = 4  # beside the name
_JOINER, _SHAPE = "200D", "FE0F"
_VARIANTS = ([_JOINER, "2640"], [_JOINER, "2642"], [_JOINER, "27A1"])  # of a woman, of a man, facing right
_PERSON = {"1F468": "1F9D1", "1F469": "1F9D1"}  # a man or a woman of some role, and the person of it

CLASSES: Mapping[str, tuple[str, ...]] = {  # merged, so that twenty things can be tested and a dozen trained on
    "beast": ("animal-bird", "animal-marine", "animal-bug", "animal-reptile", "animal-amphibian"),
    "clothing": ("clothing",),
    "dish": ("food-prepared", "food-asian", "food-sweet"),
    "face": (
        *("face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy"),
        *("face-unwell", "face-hat", "face-glasses", "face-concerned", "face-negative"),
    ),
    "hand": (
        *("hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"),
        "hand-prop",
    ),
    "mammal": ("animal-mammal",),
    "paper": ("office", "book-paper", "mail", "writing"),
    "place": ("place-building", "place-other", "place-geographic", "place-religious", "place-map"),
    "sky": ("sky & weather",),
    "sport": ("sport", "person-sport"),
    "tool": ("tool", "science", "medical"),
    "vehicle": ("transport-ground", "transport-air", "transport-water"),
}
_CLASS_OF = {fine: merged for merged, own in CLASSES.items() for fine in own}


@dataclass(frozen=True)
class Thing:
    """One thing: what its vendors draw and its languages name.

    Attributes:
        code: its code points, without what says how they are drawn.
        fine: its fine class, the subcategory.
        pictures: a PNG of 64 px on white, by vendor.
        words: its name and first keywords by locale.
    """

    code: str
    fine: str
    pictures: Mapping[str, bytes]
    words: Mapping[str, str]

    @property
    def concept(self) -> str:
        """Its class: a merged one of :data:`CLASSES`, else the fine one."""
        return _CLASS_OF.get(self.fine, self.fine.replace(" & ", "-and-"))


def read_things(folder: Path) -> tuple[Thing, ...]:
    """Every thing once, without flags and skin tones; of a man, a woman and a person of one role only the last.

    What has no name of its own is left out too: keycaps, and things facing right.

    Raises:
        DataError: no registry, or a package of other content.
    """
    return _read(once(folder / "things", lambda fresh: _write(folder, fresh)))


@lru_cache(maxsize=4)
def _read(folder: Path) -> tuple[Thing, ...]:
    with tarfile.open(folder / "things.tar") as archive:
        members = ((m.name, archive.extractfile(m)) for m in archive.getmembers())
        files = {name: file.read() for name, file in members if file is not None}
    things, seen = [], set[bytes]()
    for row in json.loads(files["things.json"]):
        pictures = {vendor: files[f"{vendor}/{row['code']}.png"] for vendor in VENDORS}
        if not seen & set(pictures.values()):  # two things may be drawn as one
            things.append(Thing(row["code"], row["fine"], pictures, row["words"]))
        seen |= set(pictures.values())
    return tuple(things)


def _write(folder: Path, fresh: Path) -> None:
    words = _words(fetch_tarball(NAMES, folder))
    chosen: dict[str, Any] = {}
    for entry in _members(fetch_tarball(VENDORS["google"], folder), ["emoji.json"])["emoji.json"]:
        code, text = _code(entry["unified"]), _text(entry["unified"])
        if entry["category"] in _LEFT_OUT or not all(text in own for own in words.values()):
            continue
        if (
            code not in chosen or entry["unified"].replace(f"-{_SHAPE}", "") == code
        ):  # the person, where there is one
            own_words = {locale: own[text] for locale, own in words.items()}
            chosen[code] = entry["image"], {"code": code, "fine": entry["subcategory"], "words": own_words}
    fresh.mkdir()
    with tarfile.open(fresh / "things.tar", "w") as archive:
        _add(archive, "things.json", json.dumps([row for _, row in chosen.values()]).encode())
        for vendor, package in VENDORS.items():
            wanted = {f"img/{vendor}/64/{image}": code for code, (image, _) in chosen.items()}
            for path, content in _members(fetch_tarball(package, folder), wanted).items():
                _add(archive, f"{vendor}/{wanted[path]}.png", _on_white(content))


def _words(tarball: Path) -> dict[str, dict[str, str]]:
    """The name of each sequence of characters, and what else it is found by, by locale."""
    paths = {f"annotations/{locale}/annotations.json": locale for locale in LOCALES}
    found: dict[str, dict[str, str]] = {}
    for path, content in _members(tarball, paths).items():
        found[paths[path]] = {
            text: ", ".join(
                [entry["tts"][0], *(k for k in entry["default"] if k != entry["tts"][0])][: 1 + _KEYWORDS]
            )
            for text, entry in content["annotations"]["annotations"].items()
            if "tts" in entry and "default" in entry
        }
    return found


def _members(tarball: Path, wanted: Any) -> dict[str, Any]:
    """Some files of a package, of JSON what it says, in the package's order."""
    found: dict[str, Any] = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            path = member.name.partition("/")[2]
            file = archive.extractfile(member) if path in wanted else None
            if file is not None:
                found[path] = json.load(file) if path.endswith(".json") else file.read()
    return found


def _code(unified: str) -> str:
    parts = [part for part in unified.split("-") if part != _SHAPE]
    if parts[-2:] in _VARIANTS:
        parts = parts[:-2]
    if len(parts) > 1:
        parts[0] = _PERSON.get(parts[0], parts[0])
    return "-".join(parts)


def _text(unified: str) -> str:
    return "".join(chr(int(part, 16)) for part in unified.split("-") if part != _SHAPE)


def _on_white(content: bytes) -> bytes:
    drawn = Image.open(io.BytesIO(content)).convert("RGBA")
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    file = io.BytesIO()
    page.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
