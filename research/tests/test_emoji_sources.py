"""Things read from packages like those of npm, but tiny."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256

import pytest
from fedgram.errors import DataError
from PIL import Image

from research.evidence.federations import emoji, emoji_sources, fetch

THINGS = {  # file of the picture, subcategory, category, and the name of each
    "1F98A": ("animal-mammal", "Animals & Nature", "fox"),
    "1F468-200D-1F373": ("person-role", "People & Body", "man cook"),
    "1F9D1-200D-1F373": ("person-role", "People & Body", "cook"),
    "2601-FE0F": ("sky & weather", "Travel & Places", "cloud"),
    "1F6B6-200D-27A1-FE0F": ("person-activity", "People & Body", ""),  # nothing names it
    "1F1EA-1F1EC": ("country-flag", "Flags", "Egypt"),
    "1F0CF": ("game", "Activities", "joker"),  # drawn as the cloud is
}


def characters(unified):
    return "".join(chr(int(part, 16)) for part in unified.split("-") if part != "FE0F")


def picture(number):
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (number, 0, 0, 0 if number == 40 else 255)).save(file, "PNG")
    return file.getvalue()


def packages():
    numbers = dict(zip(THINGS, (40, 80, 120, 160, 200, 220, 160), strict=True))
    listed = [
        {"unified": u, "image": f"{u.lower()}.png", "subcategory": fine, "category": category}
        for u, (fine, category, _) in THINGS.items()
    ]
    found = {}
    for vendor, package in emoji_sources.VENDORS.items():
        shift = 5 * (vendor == "twitter")
        found[package] = {"emoji.json": json.dumps(listed).encode()} | {
            f"img/{vendor}/64/{u.lower()}.png": picture(n + shift) for u, n in numbers.items()
        }
    named = {
        characters(u): {"default": ["a", "b", name, "c", "d", "e"], "tts": [name]}
        for u, (_, _, name) in THINGS.items()
        if name
    }
    annotations = json.dumps({"annotations": {"annotations": named}}).encode()
    found[emoji_sources.NAMES] = {
        f"annotations/{locale}/annotations.json": annotations for locale in emoji_sources.LOCALES
    }
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with tarballs as npm packs them."""
    for package, files in packages().items():
        target = tmp_path / "downloads" / package.replace("@", "-").replace(".", "-")
        target.mkdir(parents=True)
        with tarfile.open(target / "package.tgz", "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"package/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        monkeypatch.setitem(fetch.TARBALLS, package, sha256((target / "package.tgz").read_bytes()).hexdigest())
    return tmp_path


def test_each_thing_is_read_once(folder):
    things = {thing.code: thing for thing in emoji_sources.read_things(folder)}
    assert set(things) == {"1F98A", "1F9D1-200D-1F373", "2601"}
    assert things["1F98A"].words["de"] == "fox, a, b, c, d"
    assert things["1F9D1-200D-1F373"].words["en"].startswith("cook,")
    assert [t.concept for t in things.values()] == ["mammal", "person-role", "sky"]


def test_pictures_lie_on_white(folder):
    things = {thing.code: thing for thing in emoji_sources.read_things(folder)}
    drawn = {v: Image.open(io.BytesIO(things["1F98A"].pictures[v])) for v in emoji_sources.VENDORS}
    assert drawn["google"].getpixel((5, 5)) == (255, 255, 255)
    assert drawn["twitter"].getpixel((5, 5)) == (45, 0, 0)
    assert drawn["google"].mode == "RGB"


def test_anchors_are_of_things_that_no_pool_has(folder):
    public, private = emoji.apart(emoji_sources.read_things(folder), 1)
    assert len(public["train"]) == 3
    assert not public["heldout"]
    assert not private
    assert {i.id for own in emoji.drawn_of(public, "en").anchors["train"].values() for i in own} == {
        "en-1F98A",
        "en-1F9D1-200D-1F373",
        "en-2601",
    }


def test_no_npm_and_no_registry(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="npm is not installed"):
        emoji_sources.read_things(tmp_path)


def test_a_tarball_of_other_content(folder):
    for path in (folder / "downloads").glob("cldr*/*.tgz"):
        path.write_bytes(b"something else")
    with pytest.raises(DataError, match="sha256"):
        emoji_sources.read_things(folder)
