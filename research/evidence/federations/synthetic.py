"""Four made modalities of one hidden scene: the truth is known, and every assumption can be broken.

``broken`` says what is wrong:

- ``nothing``.
- ``no shared geometry``: each modality has its concepts at places of its own; only their names are shared.
- ``wrong concept anchors``: the anchors of radar show the next concept.
- ``rotated modality``: the tokens of radar are turned by a random orthogonal matrix, anchors and all. Its geometry
  is as before, its coordinates are not: a method that looks at geometry alone must not care.
- ``few anchors``: one slot a concept.
- ``noisy site``: at the first radar site half of the cells of the training data are those of other samples.
- ``mislabelled site``: at the first radar site the training labels are dealt anew.
- ``synthetic anchors``: the anchors of radar are drawn from a Gaussian for each concept, fitted to its own ones.
- ``partial anchors``: every modality lacks the anchors of one concept, each of another.
- ``shuffled anchors``: every modality's anchors are dealt anew to the slots; what is left is regularisation.
- ``collapsed site``: the encoder of the first radar site hardly tells one sample from another.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.anchors.build import csv_bytes
from fedgram.anchors.writing import NewFile, NewSlot, write_anchors
from fedgram.config.job import BackboneConfig
from fedgram.config.site import BridgeConfig, Columns
from fedgram.data.tables import read_table
from fedgram.errors import ConfigError
from transformers import BertConfig, BertModel

from research.evidence.federations import EVEN, Federation, kind_of
from research.evidence.federations import anchorsets as change
from research.evidence.federations.assemble import assemble
from research.evidence.federations.damage import mislabelled_site, noisy_site
from research.evidence.federations.items import Item, Pool
from research.evidence.federations.latent import COLUMNS, KINDS
from research.evidence.federations.once import digest, once
from research.evidence.federations.sitefiles import write_csv
from research.evidence.federations.world import CONCEPTS, DIMENSIONS, Array, World, cells

Broken = Literal[
    "nothing",
    "no shared geometry",
    "wrong concept anchors",
    "rotated modality",
    "few anchors",
    "noisy site",
    "mislabelled site",
    "synthetic anchors",
    "partial anchors",
    "shuffled anchors",
    "collapsed site",
]
NAME, BACKBONE = "synthetic", "random-bert"
BRIDGED = ("radar", "lidar")  # where there are pairs, the first radar site has them
SLOTS = 4  # a concept
_SAMPLES = 110  # a concept and modality, in groups of two
VICTIM = "radar"  # whose first site, or whose anchors, are spoilt
_UNSEEN = {"thermal": frozenset({"moss"})}
TRUTH = "truth.csv"
MODULE = "research.evidence.federations.latent"


def build(
    folder: Path, *, sites: int = 4, alpha: float = EVEN, seed: int = 0, broken: Broken = "nothing", pairs: int = 0
) -> Federation:
    """The federation ``synthetic``, written below ``folder``.

    Args:
        pairs: training samples that the first radar site has as lidar sees them too.

    Raises:
        ConfigError: ``broken`` is none of the above, or too few data for so many sites or pairs.
    """
    if broken not in get_args(Broken):
        raise ConfigError(f"{broken!r}", where="broken", expected=", ".join(get_args(Broken)))
    world = World(
        seed,
        shared=broken != "no shared geometry",
        turned=(VICTIM,) if broken == "rotated modality" else (),
    )
    slots = {part: _slots(world, part) for part in ("train", "heldout")}
    home = folder / digest((world, slots))
    made = once(home / "world", lambda fresh: _write_world(fresh, world, slots))
    pools = [
        Pool(kind, f"{MODULE}:{kind.upper()}", "identity", _items(world, kind), _UNSEEN.get(kind, frozenset()))
        for kind in KINDS
    ]
    federation = assemble(
        NAME if world.shared and not world.turned else f"{NAME}, {broken}",
        home,
        pools,
        (str(made / "train"), str(made / "heldout")),
        BackboneConfig(BACKBONE),
        sites=sites,
        alpha=alpha,
        seed=seed,
        backbones={BACKBONE: str(made / "backbone")},
    )
    return _broken(_bridged(federation, home, world, pairs), home, broken, seed)


def _bridged(federation: Federation, home: Path, world: World, pairs: int) -> Federation:
    """A federation with pairs at one site; fewer pairs are the first of more."""
    if not pairs:
        return federation
    first, second = BRIDGED
    site = federation.of_kind(first)[0]
    config = federation.sites[site]
    table, truth = read_table(Path(config.data)), latents_of(federation, site)
    trained = table.loc[table["split"] == "train", "id"].tolist()
    names = sorted(trained, key=lambda name: digest((world.seed, name)))[:pairs]
    if len(names) < pairs:
        raise ConfigError(f"{pairs}", where="pairs", expected=f"at most {len(names)}, the training samples")
    rows = world.seen(second, "pairs", np.stack([truth[name] for name in names]))
    lines = [(name, *cells(row).values()) for name, row in zip(names, rows, strict=True)]
    target = once(
        home / "pairs" / f"{digest((site, names))}.csv",
        lambda fresh: write_csv(fresh, ("id", *COLUMNS), lines),
    )
    bridge = BridgeConfig(f"{MODULE}:{second.upper()}", str(target), "identity", columns=Columns(group="id"))
    sites = {**federation.sites, site: replace(config, bridge=bridge)}
    return replace(federation, name=f"{federation.name}, {pairs} pairs", sites=sites)


def _broken(federation: Federation, home: Path, broken: Broken, seed: int) -> Federation:
    victim = federation.of_kind(VICTIM)[0]
    if broken == "wrong concept anchors":
        return change.misplace_anchors(federation, home, VICTIM)
    if broken == "few anchors":
        return change.fewer_anchors(federation, home, len(CONCEPTS))
    if broken == "partial anchors":
        return change.partial_anchors(federation, home)
    if broken == "shuffled anchors":
        return change.shuffle_anchors(federation, home, seed)
    if broken == "synthetic anchors":
        return change.replace_files(federation, home, broken, VICTIM, lambda found: _gaussian(found, seed))
    if broken == "noisy site":
        return noisy_site(federation, home, victim, seed)
    if broken == "mislabelled site":
        return mislabelled_site(federation, home, victim, seed)
    if broken == "collapsed site":
        collapsed = replace(federation.sites[victim], tokenizer="collapsed")
        return replace(federation, name=f"{NAME}, {broken}", sites={**federation.sites, victim: collapsed})
    return federation


def latents_of(federation: Federation, site: str) -> dict[str, Array]:
    """The true z, (8,), of each of a site's samples by id, and of the samples of other sites."""
    with (Path(federation.sites[site].cache).parent / "world" / TRUTH).open(newline="") as file:
        return {row[0]: np.array(row[1:], dtype=np.float64) for row in list(csv.reader(file))[1:]}


def latents_of_anchors(federation: Federation, site: str, *, heldout: bool = False) -> Array:
    """The true z of a site's anchors in slot order, (b, 8); NaN for one that is synthetic."""
    config = federation.sites[site]
    anchors = load_anchors(Path(config.heldout or "" if heldout else config.anchors))
    truth, kind = latents_of(federation, site), kind_of(site)
    names = [anchors.slots[i].files[kind].source for i in anchors.covered(kind)]
    return np.stack([truth.get(name, np.full(DIMENSIONS, np.nan)) for name in names])


def _concepts(part: str) -> list[str]:
    return [c for c in CONCEPTS for _ in range(_SAMPLES if part == "sites" else SLOTS)]


def _names(kind: str, part: str) -> list[str]:
    return [f"{kind}-{part}-{number}" for number in range(len(_concepts(part)))]


def _items(world: World, kind: str) -> tuple[Item, ...]:
    concepts, names = _concepts("sites"), _names(kind, "sites")
    rows = world.seen(kind, "sites", world.latents(kind, "sites", concepts))
    return tuple(
        Item(name, concept, f"{kind}-{number // 2}", cells(row))
        for number, (name, concept, row) in enumerate(zip(names, concepts, rows, strict=True))
    )


def _write_world(folder: Path, world: World, slots: Mapping[str, list[NewSlot]]) -> None:
    """Write the anchors, the truth about every sample and anchor, and the backbone."""
    folder.mkdir()
    truth: list[tuple[str, ...]] = []
    for kind in KINDS:
        for part in ("sites", "train", "heldout"):
            latents = world.latents(kind, part, _concepts(part))
            truth += [
                (name, *(repr(float(x)) for x in z)) for name, z in zip(_names(kind, part), latents, strict=True)
            ]
    write_csv(folder / TRUTH, ("id", *(f"z{i}" for i in range(DIMENSIONS))), truth)
    for part, found in slots.items():
        write_anchors(folder / part, f"{NAME}-{part}", found, KINDS)
    write_backbone(folder / "backbone", world.seed)


def write_backbone(folder: Path, seed: int) -> None:
    """Write a small BERT of random weights."""
    shape = BertConfig(
        vocab_size=30,
        max_position_embeddings=16,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(shape)
    model.save_pretrained(folder)


def _slots(world: World, part: str) -> list[NewSlot]:
    concepts = _concepts(part)
    files: list[dict[str, NewFile]] = [{} for _ in concepts]
    for kind in KINDS:
        rows = world.seen(kind, part, world.latents(kind, part, concepts))
        for file, row, name in zip(files, rows, _names(kind, part), strict=True):
            file[kind] = anchor_file(row, name)
    return [NewSlot(f"{c}-{i % SLOTS + 1}", c, files[i]) for i, c in enumerate(concepts)]


def anchor_file(row: Array, source: str, origin: Literal["real", "synthetic"] = "real") -> NewFile:
    """A row of tokens as the file of an anchor."""
    content = cells(row)
    return NewFile(csv_bytes(content, content.values()), ".csv", origin, "CC0-1.0", source)


def _gaussian(anchors: AnchorSet, seed: int) -> Mapping[str, NewFile]:
    """New anchors of the victim, with the mean and standard deviations of each concept's own, uncorrelated."""
    kind, generator = KINDS[VICTIM], np.random.default_rng([seed, len(COLUMNS)])
    rows = dict(zip(anchors.covered(VICTIM), map(np.float64, anchors.contents(kind)), strict=True))
    made = {}
    for i in rows:
        slot = anchors.slots[i]
        own = np.stack([row for j, row in rows.items() if anchors.slots[j].concept == slot.concept])
        drawn = own.mean(0) + own.std(0, ddof=1) * generator.standard_normal(len(COLUMNS))
        made[slot.id] = anchor_file(drawn, "synthetic: Gaussian of the concept's anchors", "synthetic")
    return made
