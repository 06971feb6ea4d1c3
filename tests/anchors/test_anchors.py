"""Anchor sets: what the manifest says is what is there, and partial coverage is exact."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from fedgram import modalities
from fedgram.anchors import load_anchors
from fedgram.errors import AnchorError


def _file(folder, path: str, content: str) -> dict[str, str]:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(content)
    digest = sha256(content.encode()).hexdigest()
    return {"path": path, "sha256": digest, "origin": "real", "licence": "MIT", "source": "test"}


@pytest.fixture
def folder(tmp_path):
    """Slots 0 … 3; text fills all, genomics 1 and 3, images none."""
    slots = []
    for i, concept in enumerate(("dog", "dog", "cat", "cat")):
        files = {"text": _file(tmp_path, f"text/{i}.txt", f"text of {i}")}
        if i % 2:
            files["genomics"] = _file(tmp_path, f"genomics/{i}.fasta", f">{i}\n{'ACGT' * i}\n")
        slots.append({"id": f"s{i}", "concept": concept, "files": files})
    _write(tmp_path, {"format": 1, "name": "tiny", "slots": slots})
    return tmp_path


def _write(folder, manifest) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _edit(folder, change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    _write(folder, manifest)


def test_partial_coverage(folder):
    anchors = load_anchors(folder)
    assert (anchors.name, len(anchors)) == ("tiny", 4)
    assert anchors.covered("text") == (0, 1, 2, 3)
    assert anchors.covered("genomics") == (1, 3)
    assert anchors.covered("image") == ()
    assert anchors.concepts("genomics") == ["dog", "cat"]
    assert anchors.contents(modalities.load("genomics")) == ["ACGT", "ACGTACGTACGT"]
    assert anchors.contents(modalities.load("text")) == [f"text of {i}" for i in range(4)]
    assert anchors.contents(modalities.load("image")) == []
    assert anchors.slots[0].files["text"].origin == "real"


def test_the_manifest_hash_is_required(folder):
    anchors = load_anchors(folder)
    assert anchors.manifest_sha256 == sha256((folder / "manifest.json").read_bytes()).hexdigest()
    anchors.require(anchors.manifest_sha256)
    with pytest.raises(AnchorError, match="another anchor set"):
        anchors.require("0" * 64)


def test_edited_missing_and_extra_files_are_named(folder):
    (folder / "text" / "extra.txt").write_text("x")
    with pytest.raises(AnchorError, match=r"extra\.txt: extra file"):
        load_anchors(folder)
    (folder / "text" / "extra.txt").rename(folder / "text" / "1.txt")
    with pytest.raises(AnchorError, match=r"1\.txt: edited"):
        load_anchors(folder)
    (folder / "text" / "1.txt").unlink()
    with pytest.raises(AnchorError, match=r"1\.txt: missing"):
        load_anchors(folder)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda m: m.update(format=2), "format 2"),
        (lambda m: m.pop("slots"), "malformed"),
        (lambda m: m.update(slots=[]), "no slots"),
        (lambda m: m["slots"][0].update(id="s1"), "listed twice"),
        (lambda m: m["slots"][0]["files"]["text"].update(path="text/1.txt"), "listed twice"),
        (lambda m: m["slots"][0]["files"]["text"].update(path="../0.txt"), "outside the folder"),
        (lambda m: m["slots"][0]["files"]["text"].update(path="/etc/passwd"), "outside the folder"),
        (lambda m: m["slots"][0]["files"]["text"].update(origin="unknown"), "real or synthetic"),
        (lambda m: m["slots"][0]["files"]["text"].pop("licence"), "licence"),
    ],
)
def test_malformed_manifests(change, part, folder):
    _edit(folder, change)
    with pytest.raises(AnchorError, match=part):
        load_anchors(folder)


def test_no_manifest(folder):
    (folder / "manifest.json").write_text("{")
    with pytest.raises(AnchorError, match="malformed"):
        load_anchors(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(AnchorError, match="no anchor manifest"):
        load_anchors(folder)
