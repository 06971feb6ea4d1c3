"""The records that pass between the parts of fedgram.

Shapes use the symbols of the paper: N samples, L tokens, d_m token width of modality m, d model width, r rank,
B anchors, K sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Target = str | float | tuple[str, ...] | Path | None  # a class, a number, labels, a mask's file

WIRE_DTYPE = torch.bfloat16  # of ΔB: 8 bits of mantissa on a difference; B itself stays float32


def below(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """The entries named ``<prefix>…``, by the rest of their names: a part of a mapping that travels as a whole."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def of_groups(groups: Mapping[str, str], shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a site's groups, by the names that they have at the site.

    Args:
        groups: of the site, by part.
        shared: of all groups, by ``<group>/<tensor>``, where a tensor is called ``<part>/<name>``.
    """
    parts = [(f"{group}/", f"{part}/") for part, group in groups.items()]
    return {k: v for group, part in parts for k, v in below(group, shared).items() if k.startswith(part)}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled item of a site's data, before it is turned into tokens.

    Attributes:
        id: unique within the site; names the sample in local messages, never sent.
        concept: of those that the anchors speak of, by name (``"Ursidae"``); ``""`` where the data name none.
        group: what must not be on both sides of a split (patient, species).
        content: the modality's own raw form (a picture's file, a string, a table row).
        target: what the site's task learns; the concept when None.
        split: ``train``, ``validation`` or ``test`` where the data say so themselves.
        source: file and row, for messages.
    """

    id: str
    concept: str
    group: str
    content: Any
    target: Target = None
    split: str = ""
    source: str = field(default="", compare=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The sample's class or labels; none where the target is a number or a mask."""
        target = self.concept if self.target is None else self.target
        if isinstance(target, tuple):
            return target
        return (target,) if isinstance(target, str) else ()


@dataclass(frozen=True)
class Tokens:
    """Frozen tokens φ_m(x) of N samples, and which of them are there.

    Attributes:
        values: (N, L, d_m), float32.
        mask: (N, L), bool; False where a token is padding or a value is missing.
    """

    values: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, rows: Any) -> Tokens:
        return Tokens(self.values[rows], self.mask[rows])

    def to(self, device: torch.device) -> Tokens:
        """Copy the tokens to a device."""
        return Tokens(self.values.to(device), self.mask.to(device))


@dataclass(frozen=True, kw_only=True)
class LabelledTokens:
    """Tokens with one target per sample, and the concept, ``""`` where the data name none.

    ``groups`` names what must not be on two sides of a split (a patient), where somebody asks for it.
    """

    tokens: Tokens
    targets: Tensor
    concepts: Sequence[str]
    groups: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, samples: Tensor) -> Tokens:
        """The tokens of some of the samples."""
        return self.tokens[samples]


@dataclass(frozen=True, kw_only=True)
class AnchorTokens:
    """Tokens of the anchor slots that a modality covers, on the device on which the site computes."""

    slots: tuple[int, ...]
    tokens: Tokens
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shape and identity of the shared transformer, equal at every site of a federation.

    Attributes:
        shapes: (d_out, r, d_in) of every adapted layer, by its PEFT name without the ``lora_B`` suffix.
        backbone: sha256 of the frozen base weights.
        width: d, of its hidden states.
    """

    shapes: Mapping[str, tuple[int, int, int]]
    backbone: str
    width: int


@dataclass(frozen=True, kw_only=True)
class SiteIntroduction:
    """A site's message before the first round: which model it runs, and that model's initial geometry.

    Attributes:
        site: the sender.
        version: of the fedgram package.
        anchors_sha256: of the anchor manifest it uses.
        spec: of its shared transformer.
        gram: (b, b) cosines of the initial model over the anchors it covers.
        slots: which anchor slots those are, ascending.
        samples: number of local training samples.
        modality: of its data; some methods average within modalities.
        groups: by part that its own file shares (``adapter``, ``head``): sha256 of what the group has alike.
        shared_shapes: of the tensors of these parts, ``<part>/<name>``.
        m: of the base, (d_out,) by layer name, float32; empty while magnitudes are private.
        privacy: ``epsilon`` and ``delta`` of all that the site sends in this job; empty where it promises none.
    """

    site: str
    version: str
    anchors_sha256: str
    spec: ModelSpec
    gram: Tensor
    slots: tuple[int, ...]
    samples: int
    modality: str
    groups: Mapping[str, str] = field(default_factory=dict)
    shared_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    m: Mapping[str, Tensor] = field(default_factory=dict)
    privacy: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SiteUpdate:
    """Everything a site sends in one round, and nothing else.

    Attributes:
        site: the sender.
        round: the round it answers.
        anchors_sha256: of the anchor manifest it used.
        delta_B: change of B in this round, (d_out, r) by layer name, bf16.
        m: (d_out,) by layer name, float32; empty while magnitudes are private.
        gram: cosines over the anchors the site covers, (b, b).
        slots: which anchor slots those are, ascending, b of them.
        weight: the site's precision p_k (or sample count, or 1), before normalisation.
        samples: number of local training samples.
        metrics: the numbers that the job names.
        restarts: how often the site's training process died in this round and was started again.
        extra: what the job's method sends besides (:mod:`fedgram.methods`); nothing in GeoLoRA and GeoDoRA.
        shared: change of what the site shares within its groups, bf16: ``adapter/linear.weight``, say.
    """

    site: str
    round: int
    anchors_sha256: str
    delta_B: Mapping[str, Tensor]
    m: Mapping[str, Tensor]
    gram: Tensor
    slots: tuple[int, ...]
    weight: float
    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    restarts: int = 0
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GlobalState:
    """The state that the server holds after a round and broadcasts in the next.

    Attributes:
        round: number of completed rounds.
        anchors_sha256: of the anchor manifest.
        backbone: sha256 of the frozen base weights; a site with others must not train.
        B: (d_out, r) by name of the layers whose B is shared, float32.
        m: the base's before the first round, then the mean, (d_out,) by layer name; empty while magnitudes are
            private.
        consensus: Ḡ, (B, B), float32; NaN where fewer than two sites cover the pair.
        extra: what the job's method shares besides (:mod:`fedgram.methods`), float32.
        shared: U, the sum of the mean changes within each group, by ``<group>/<tensor>``, float32.
    """

    round: int
    anchors_sha256: str
    backbone: str
    B: Mapping[str, Tensor]
    m: Mapping[str, Tensor]
    consensus: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """A site's answer at the end: test metrics and the geometry of public anchors, no sample of its own.

    Attributes:
        site: the sender.
        metrics: on the site's test split.
        gram: (b + h, b + h) cosines over its training anchors followed by its held-out anchors.
        slots: training anchor slots, ascending, b of them.
        heldout_slots: held-out anchor slots, ascending, h of them.
        prototypes: mean anchor coordinates of concepts, (b,) float32 each; none unless the site shares them.
        token_gram: (b, b) cosines over the same anchors in the space of the prototypes; (0, 0) without any.
    """

    site: str
    metrics: Mapping[str, float]
    gram: Tensor
    slots: tuple[int, ...]
    heldout_slots: tuple[int, ...]
    prototypes: Mapping[str, Tensor] = field(default_factory=dict)
    token_gram: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """The account of one round, for the report.

    Attributes:
        round: counted from 1.
        shares: p_k / Σ p_k by site that counted.
        metrics: what each of them reported.
        payload_bytes: bytes of tensors each of them sent.
        rejected: reason by site whose reply did not count.
        missing: sites that did not reply.
        mean_update_norm: ‖Σ p_k ΔB_k / Σ p_k‖_F.
        update_norms: ‖ΔB_k‖_F by site, with all else that it sent but m and G.
        seconds: wall-clock time.
        restarts: by site whose training process died and was started again.
        samples: number of training samples by site that counted.
        shortened: by site that went further than is usual, to which share of its length ΔB, m, G or the change of
            a group was cut, of these the smallest.
    """

    round: int
    shares: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, float]]
    payload_bytes: Mapping[str, int]
    rejected: Mapping[str, str]
    missing: tuple[str, ...]
    mean_update_norm: float
    update_norms: Mapping[str, float]
    seconds: float
    restarts: Mapping[str, int]
    samples: Mapping[str, int]
    shortened: Mapping[str, float] = field(default_factory=dict)
