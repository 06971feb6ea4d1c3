"""The checks that every federation of the studies passes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from fedgram import modalities
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.config.site import SiteConfig
from fedgram.demo.names import locate
from fedgram.records import Sample
from fedgram.sites.samples import read_samples, split_samples

from research.evidence.federations import Federation, kind_of
from research.evidence.federations.assemble import MOST_TRAINING
from research.partition.dirichlet import LEAST

Parts = dict[str, list[Sample]]


def parts_of(name: str, config: SiteConfig, *, all_concepts: bool = False) -> Parts:
    """A site's samples by split, as fedgram reads them."""
    samples = read_samples(config, modalities.load(config.modality))
    return split_samples(name, samples, () if all_concepts else config.concepts)


def anchors_of(config: SiteConfig) -> tuple[AnchorSet, AnchorSet]:
    cache = Path(config.cache)
    return load_anchors(locate(config.anchors, cache)), load_anchors(locate(config.heldout or "", cache))


def contents(federation: Federation, name: str) -> dict[str, set[bytes]]:
    """Fingerprints of a site's samples and of its modality's anchors, by where they are."""
    config = federation.sites[name]
    modality = modalities.load(config.modality)
    parts = parts_of(name, config, all_concepts=True)
    found = {part: {modality.fingerprint(s.content) for s in rows} for part, rows in parts.items()}
    train, heldout = anchors_of(config)
    return found | {
        "anchors": {modality.fingerprint(c) for c in train.contents(modality)},
        "heldout": {modality.fingerprint(c) for c in heldout.contents(modality)},
    }


def check(federation: Federation, sites: int) -> None:
    """Check the number of sites, the rule of enough data, disjoint groups, anchors and zero-shot."""
    assert len(federation.sites) == sites
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name, config in federation.sites.items():
        samples = read_samples(config, modalities.load(config.modality))
        parts = split_samples(name, samples, config.concepts)
        count = defaultdict(int)
        for sample in parts["train"]:
            count[sample.concept] += 1
        assert sum(n >= LEAST for n in count.values()) >= 2, name
        assert 10 <= len(parts["train"]) <= MOST_TRAINING, name
        assert parts["test"], name
        assert {s.concept for part in parts.values() for s in part} == set(count), name
        for part, rows in split_samples(name, samples, ()).items():
            for sample in rows:
                place = groups[kind_of(name)].setdefault(sample.group, f"{name} {part}")
                assert place == f"{name} {part}", sample.group
        train, heldout = anchors_of(config)
        assert train.manifest_sha256 == federation.anchors.sha256
        assert heldout.manifest_sha256 == federation.heldout.sha256
        assert tuple(s.concept for s in train.slots) == federation.anchors.concepts
        assert len(train.covered(kind_of(name))) >= 4
        assert len(heldout.covered(kind_of(name))) >= 4
        assert set(train.concepts(kind_of(name))) & set(count)


def unseen_tests(federation: Federation) -> dict[str, set[str]]:
    """Concepts that a site is tested on and never trained on, by site."""
    found = {}
    for name, config in federation.sites.items():
        tested = {s.concept for s in parts_of(name, config, all_concepts=True)["test"]}
        trained = {s.concept for s in parts_of(name, config)["train"]}
        if tested - trained:
            found[name] = tested - trained
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without the caches of tokens and of unpacked archives."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "cache" not in path.relative_to(folder).parts
    }
