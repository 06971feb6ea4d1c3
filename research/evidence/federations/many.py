"""Made worlds of many samples, many concepts, or the same things in every modality: synthetic data of the regimes.

As :mod:`~.synthetic`, with the same six concepts asked and the same modalities; what differs is how much of it
there is, and of what the anchors are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram.anchors.writing import NewSlot, write_anchors
from fedgram.config.job import BackboneConfig

from research.evidence.federations.items import Item, Pool, Source
from research.evidence.federations.latent import KINDS
from research.evidence.federations.once import digest, once
from research.evidence.federations.sitefiles import write_csv
from research.evidence.federations.synthetic import BACKBONE, MODULE, NAME, TRUTH, anchor_file, write_backbone
from research.evidence.federations.world import CONCEPTS, DIMENSIONS, Array, World, cells


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a made world.

    Attributes:
        seed: of the world.
        samples: of a concept and modality.
        slots: (training, held-out) anchors of a concept.
        foreign: concepts that only anchors have, and then these alone; 0 for anchors of the concepts asked.
        things: whether sample i, and anchor j, are one latent as every modality sees it.
    """

    seed: int
    samples: int
    slots: tuple[int, int] = (4, 4)
    foreign: int = 0
    things: bool = False


def source(folder: Path, plan: Plan) -> tuple[Path, Source]:
    """The home of a made world below ``folder``, where it is written once, and what sites are made from."""
    world = World(plan.seed, concepts=CONCEPTS + tuple(f"other-{i + 1:02}" for i in range(plan.foreign)))
    home = folder / digest((world, plan))
    made = once(home / "world", lambda fresh: _write(fresh, world, plan))
    names = _concepts(plan, "sites")
    fine = world.finer("all", "sites", len(names))
    return home, Source(
        tuple(Pool(kind, f"{MODULE}:{kind.upper()}", "identity", _items(world, kind, plan)) for kind in KINDS),
        (str(made / "train"), str(made / "heldout")),
        BackboneConfig(BACKBONE),
        {BACKBONE: str(made / "backbone")},
        things=plan.things,
        fine={f"thing-{i}": f"{c} {fine[i] + 1}" for i, c in enumerate(names)} if plan.things else {},
    )


def _concepts(plan: Plan, part: str) -> list[str]:
    if part == "sites":
        return [c for c in CONCEPTS for _ in range(plan.samples)]
    public = [f"other-{i + 1:02}" for i in range(plan.foreign)] or CONCEPTS
    return [c for c in public for _ in range(plan.slots[part == "heldout"])]


def _seen(world: World, kind: str, plan: Plan, part: str) -> tuple[Array, Array]:
    """Latents, and how a modality sees them."""
    latents = world.latents("all" if plan.things else kind, part, _concepts(plan, part))
    return latents, world.seen(kind, part, latents)


def _items(world: World, kind: str, plan: Plan) -> tuple[Item, ...]:
    _, rows = _seen(world, kind, plan, "sites")
    group = "thing" if plan.things else kind
    return tuple(
        Item(f"{kind}-sites-{i}", concept, f"{group}-{i}", cells(row))
        for i, (concept, row) in enumerate(zip(_concepts(plan, "sites"), rows, strict=True))
    )


def _write(folder: Path, world: World, plan: Plan) -> None:
    """Write anchors, backbone, and the truth about every sample and anchor."""
    folder.mkdir()
    truth: list[Sequence[str]] = []
    for part in ("sites", "train", "heldout"):
        concepts = _concepts(plan, part)
        slots = [NewSlot(f"{c}-{i + 1}", c, {}) for i, c in enumerate(concepts)]
        for kind in KINDS:
            for i, (z, row) in enumerate(zip(*_seen(world, kind, plan, part), strict=True)):
                name = f"{kind}-{part}-{i}"
                truth.append((name, *(repr(float(x)) for x in z)))
                slots[i] = NewSlot(slots[i].id, concepts[i], {**slots[i].files, kind: anchor_file(row, name)})
        if part != "sites":
            write_anchors(folder / part, f"{NAME}-{part}", slots, KINDS)
    write_csv(folder / TRUTH, ("id", *(f"z{i}" for i in range(DIMENSIONS))), truth)
    write_backbone(folder / "backbone", world.seed)
