"""The files of a user's own four sites, as the page "Your own data" begins with them. Nothing of the demo.

The concept is a count from none to three: handwritten digits (Alpaydin and Kaynak 1998, by way of scikit-learn) as
scans and, of other digits, their ink by row and column as a table; sentences that say how many; DNA from a Markov
chain of each concept. Public anchors are of the same kinds, and no sample of a site.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

CONCEPTS = ("none", "one", "two", "three")
PARTS = ("train", "heldout")
_SENTENCES = {
    "none": ("there is no {} left", "not a single {} was found", "nobody saw any {}", "without even a {}"),
    "one": ("a single {} was found", "only one {} is left", "there is just this {}", "the {} stands alone"),
    "two": ("a pair of {}s was found", "both {}s are here", "the {} and its twin", "two {}s, left and right"),
    "three": ("a trio of {}s", "three {}s in a row", "the {}s came as triplets", "each of the three {}s"),
}
_WORDS = (
    "lamp boat drum nail fern goat coin tent rope sail bell crab kite plum rake swan vase wolf yarn moth "
    "pear toad mint harp clam frog lock oven pony quilt ramp shed tile urn vine wheel axe bowl cart dish"
)
_THINGS = _WORDS.split()
_BASES, _ORDER = "ACGT", 3


def _digits() -> dict[str, list[np.ndarray]]:
    data = load_digits()
    return {name: [i.astype(np.uint8) for i in data.images[data.target == n]] for n, name in enumerate(CONCEPTS)}


def _ink(image: np.ndarray) -> dict[str, object]:
    rows = {f"row_{i}": int(value) for i, value in enumerate(image.sum(1))}
    columns = {f"column_{i}": int(value) for i, value in enumerate(image.sum(0))}
    return {**rows, **columns, "wide": "yes" if (image.sum(0) > 0).sum() > 5 else "no"}


def _sentences(concept: str, things: list[str]) -> list[tuple[str, str]]:
    return [(thing, sentence.format(thing)) for thing in things for sentence in _SENTENCES[concept]]


def _chain(concept: str, length: int, generator: np.random.Generator) -> str:
    """DNA in which the next base depends on the three before it, by rules of the concept."""
    rules = np.random.default_rng([5, CONCEPTS.index(concept)]).dirichlet([0.7] * 4, size=4**_ORDER)
    state, bases = 0, []
    for _ in range(length):
        base = int(generator.choice(4, p=rules[state]))
        bases.append(_BASES[base])
        state = (state * 4 + base) % 4**_ORDER
    return "".join(bases)


def _save_scan(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 - image * 15).astype(np.uint8)).resize((32, 32)).save(path)


def write(root: Path, each: int = 48, anchors: int = 4) -> None:
    """``data/`` of the four sites and ``public/train`` and ``public/heldout`` for the anchors."""
    generator = np.random.default_rng(0)
    digits, rows, texts, labels, reads = _digits(), [], [], [], []
    kept = 2 * anchors
    for concept in CONCEPTS:
        pictures = digits[concept]
        for i, image in enumerate(pictures[:each]):
            _save_scan(image, root / "data" / "scans" / concept / f"{i}.png")
        rows += [{**_ink(image), "concept": concept} for image in pictures[each : 2 * each]]
        texts += [
            {"text": text, "concept": concept, "thing": thing}
            for thing, text in _sentences(concept, _THINGS[kept:])
        ]
        for i in range(each):
            labels.append({"id": f"{concept}{i}", "concept": concept, "group": f"genome{i // 2}-{concept}"})
            reads.append(f">{concept}{i}\n{_chain(concept, 300, generator)}\n")
        for part, name in enumerate(PARTS):
            public = root / "public" / name
            for i, image in enumerate(pictures[2 * each + part :: 2][:anchors]):
                _save_scan(image, public / "image" / concept / f"{i}.png")
            table = pd.DataFrame([_ink(image) for image in pictures[2 * each + kept + part :: 2][:anchors]])
            things = _THINGS[part * anchors : (part + 1) * anchors]
            for i, thing in enumerate(things):
                _write(public / "text" / concept / f"{i}.txt", _SENTENCES[concept][i % 4].format(thing))
                chain = _chain(concept, 300, generator)
                _write(public / "genomics" / concept / f"{i}.fasta", f">{concept}{i}\n{chain}\n")
            _write(public / "tabular" / concept / "rows.csv", table.to_csv(index=False))
    _write(root / "data" / "notes.jsonl", "".join(f"{json.dumps(text)}\n" for text in texts))
    _write(root / "data" / "reads.fasta", "".join(reads))
    _write(root / "data" / "reads.csv", pd.DataFrame(labels).to_csv(index=False))
    pd.DataFrame(rows).to_parquet(root / "data" / "ink.parquet")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
