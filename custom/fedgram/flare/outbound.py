"""The contract of the README, as data: all that leaves a site, and what never does.

The README's table, the doctor and the tests of what is sent all read it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from fedgram.config.job import JobConfig
from fedgram.config.site import Share
from fedgram.records import WIRE_DTYPE

_FLOAT = 4  # bytes of a float32
_PRIVATE = "with [privacy]: 1 for weight and samples; of metrics cka alone"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that leaves a site.

    Attributes:
        what, shape, when: the row of the README.
        why: what the server does with it.
        fields: its names in the messages (:mod:`fedgram.flare.wire`); one that ends in ``/`` is a prefix.
        share: what the site's own file must share, one of these, for it to leave; nothing is asked for when empty.
        modes: what becomes of it in each of :data:`MODES`; it is sent as it is when absent.
    """

    what: str
    shape: str
    when: str
    why: str
    fields: tuple[str, ...] = ()
    share: tuple[Share, ...] = ()
    modes: tuple[str, str, str, str] = ("sent", "sent", "sent", "sent")


MODES = ("plain", "masked", "DP", "masked + DP")
_SUMMED = ("sent", "in a sum", "noised", "noised, in a sum")
_UNDER_MASKS = ("no", "sent", "no", "sent")

DELTA = Part(
    what="ΔB",
    shape="(d_out, r) a layer, bf16",
    when="every round",
    why="what the site learnt: the server adds the weighted mean over the sites to B",
    fields=("delta_B/",),
    modes=_SUMMED,
)
MAGNITUDE = Part(
    what="m",
    shape="(d_out,) a layer, float32",
    when="round 0 (the base's) and every round, only with `magnitude: mean`",
    why="averaged over the sites",
    fields=("m/",),
    modes=("sent", "in a sum; the base's sent", "noised", "noised, in a sum; the base's sent"),
)
GRAM = Part(
    what="G, cosines over public anchors, and which anchors they are",
    shape="(b, b), float32; b numbers",
    when="round 0 and every round; at the end also over held-out anchors",
    why="averaged to the consensus Ḡ; at the end it measures the alignment",
    fields=("gram", "slots", "heldout_slots"),
    modes=("sent", "in a sum, never at the end", "sent, of noised weights", "in a sum, never at the end"),
)
NUMBERS = Part(
    what="weight, number of training samples, restarts of the training process, the metrics that the job names",
    shape="numbers",
    when="every round; the number of samples in round 0, test metrics at the end",
    why="the site's share of the mean, and the report",
    fields=("weight", "samples", "restarts", "metrics"),
    modes=("sent", "weight in a sum, restarts", "1 for weight and samples, restarts, cka", "restarts"),
)
SHARED = Part(
    what="change of the adapter W and of the head",
    shape="as W and the head, bf16",
    when="every round, only with `share` in the site's own file",
    why="averaged over the sites of one kind: of one modality and tokenizer, of one task and its classes",
    fields=("shared/",),
    share=("adapter", "head"),
    modes=("sent", "refused", "noised", "refused"),
)
CONCEPTS = Part(
    what="mean anchor coordinates of each of the site's concepts with at least 10 samples, "
    "with the concepts' names, and G, both of frozen tokens",
    shape="(C, b); (b, b), float32",
    when="at the end, only with `share` naming `concepts` in the site's own file",
    why="merged to a directory that every site is given, by which it names concepts that it has no labels of",
    fields=("prototypes/", "token_gram"),
    share=("concepts",),
    modes=("sent", "refused", "refused", "refused"),
)
IDENTITY = Part(
    what="layer shapes, modality, hash of the base weights, package version, anchor hash, round; with `share` "
    "hashes of its groups (tokenizer, names of classes) and their shapes; with `[privacy]` its ε and δ",
    shape="names and numbers",
    when="round 0; anchor hash and round every round",
    why="all sites must train the same model on the same anchors",
    fields=(
        "spec/shapes",
        "spec/width",
        "spec/backbone",
        "modality",
        "version",
        "anchors_sha256",
        "round",
        "groups",
        "shared_shapes",
        "privacy",
    ),
)
ERROR = Part(
    what="kind of an error (`DataError`), never its text",
    shape="a word",
    when="when it happens",
    why="the report says who was left out and why",
    fields=("fedgram_error",),
)
FLARE = Part(
    what="FLARE's own: the site's name and certificate, state of its processes, what `local/resources.json` adds",
    shape="words and numbers",
    when="while the client runs",
    why="who takes part; FLARE advertises settings of that file that it does not know",
)
EXTRA = Part(
    what="what another method than `geo` sends besides",
    shape="see `fedgram.methods`",
    when="every round, only where the site's own file allows such a method",
    why="a baseline to compare with",
    fields=("extra/",),
    modes=("sent", "refused", "of noised weights, or refused", "refused"),
)
SUMS = Part(
    what="ΔB, m, G and weight under masks, in their place; each says nothing without the others'",
    shape="as these, 64-bit numbers",
    when="every round of a masked job, G alone in round 0",
    why="the server takes the masks off the sum over the sites",
    fields=("sums/",),
    modes=_UNDER_MASKS,
)
SECRETS = Part(
    what="public keys, signed, and shares of the secrets of the masks, encrypted for other sites",
    shape="hexadecimal digits, a certificate",
    when="every round of a masked job",
    why="sites agree on masks that cancel; those of a site that drops out can be taken off",
    fields=(
        *("card", "signature", "certificate", "context", "mark"),
        *("shares", "prints", "seed_print", "seeds", "keys"),
    ),
    modes=_UNDER_MASKS,
)
LEAVES = (DELTA, MAGNITUDE, SHARED, GRAM, CONCEPTS, NUMBERS, SUMS, SECRETS, IDENTITY, ERROR, FLARE)


def place(*, masked: bool, private: bool) -> int:
    """The place in :data:`MODES` of a site with or without ``[privacy]`` in a job that is masked or not."""
    return masked + 2 * private


def leaves(methods: Sequence[str], share: Sequence[Share]) -> tuple[Part, ...]:
    """The contract at a site whose own file allows these methods, and shares these parts."""
    parts = tuple(part for part in LEAVES if not part.share or set(part.share) & set(share))
    return (*parts, EXTRA) if set(methods) - {"geo"} else parts


def listed(place: int) -> list[str]:
    """A line for each part that leaves every site in a mode; what only some share is left out."""
    parts = [part for part in LEAVES if not part.share and part.modes[place] != "no"]
    return [f"{part.modes[place]}: {part.what}" for part in parts]


STAYS = (
    "samples, their names, labels and tokens",
    "the linear adapter W and the head, unless the site's own file shares their change; the optimiser's moments",
    "the second modality of a bridge site: its data, which samples are pairs, its adapter and anything it gives",
    "m, unless the job averages it",
    "representations of any sample: only cosines between public anchors are sent, and means over at least 10 "
    "samples of a concept if the site's own file shares them",
    "paths, settings and logs of the site, the text of errors",
)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The numbers of one site, from which the size of every part follows.

    Attributes:
        slots: b, training anchors that its modality fills.
        heldout: h, held-out anchors that it fills.
        samples: it trains on.
        job: that it is to run; None while unknown.
        private: whether its own file promises differential privacy.
        shapes: (d_out, r, d_in) of every adapted layer by name; None while unknown.
        shared: shapes of the tensors that it shares within groups, by name.
    """

    slots: int
    heldout: int
    samples: int
    job: JobConfig | None = None
    private: bool = False
    shapes: Mapping[str, tuple[int, int, int]] | None = None
    shared: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Amount:
    """A part at one site: in words, and the bytes of its tensors in a round."""

    text: str
    bytes: int = 0


def amounts(extent: Extent) -> dict[Part, Amount]:
    """Every part of the contract that has numbers, with those of a site."""
    b, total = extent.slots, extent.slots + extent.heldout
    metrics = "the metrics of the job" if extent.job is None else ", ".join(extent.job.metrics) or "no metrics"
    return {
        DELTA: _delta(extent),
        MAGNITUDE: _magnitude(extent),
        SHARED: _shared(extent),
        GRAM: Amount(f"({b}, {b}); at the end ({total}, {total})", _FLOAT * b * b),
        CONCEPTS: Amount(f"({b},) for each of them, at the end"),
        NUMBERS: Amount(_PRIVATE if extent.private else f"{extent.samples} samples; {metrics}"),
    }


def _delta(extent: Extent) -> Amount:
    if extent.shapes is None:
        return Amount("depends on the job and its backbone")
    values = sum(d_out * rank for d_out, rank, _ in extent.shapes.values())
    return Amount(f"{len(extent.shapes)} layers, {values} numbers", WIRE_DTYPE.itemsize * values)


def _magnitude(extent: Extent) -> Amount:
    if extent.job is not None and not extent.job.adapter.shares_magnitude:
        return Amount("never: this job keeps m at the site")
    if extent.job is None or extent.shapes is None:
        return Amount("depends on the job and its backbone")
    values = sum(d_out for d_out, _, _ in extent.shapes.values())
    return Amount(f"{len(extent.shapes)} layers, {values} numbers", _FLOAT * values)


def _shared(extent: Extent) -> Amount:
    if not extent.shared:
        return Amount("depends on the job and its backbone")
    values = sum(map(prod, extent.shared.values()))
    text = f"{len(extent.shared)} tensors, {values} numbers, where another site is of the same kind"
    return Amount(text, WIRE_DTYPE.itemsize * values)


def round_bytes(extent: Extent) -> int:
    """Bytes of all tensors that a site sends in one round."""
    return sum(amount.bytes for amount in amounts(extent).values())
