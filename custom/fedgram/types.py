"""The records that pass between the parts of fedgram. Shapes use the symbols of the paper:
N samples, L tokens, d_m token width of modality m, d model width, r rank, B anchors, K sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One labelled item of a site's data, before tokenising.

    Attributes:
        id: unique within the site; names the sample in local messages, never sent.
        concept: the label, by name (``"Ursidae"``); ``""`` when the data carry no label.
        group: what must not be on both sides of a split (patient, species).
        content: the modality's own raw form (a PIL image, a string, a table row).
    """

    id: str
    concept: str
    group: str
    content: Any


@dataclass(frozen=True)
class Tokens:
    """Frozen tokens φ_m(x).

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


@dataclass(frozen=True)
class ModelSpec:
    """What a site's shared transformer looks like; the same at every site of a federation.

    Attributes:
        shapes: (d_out, r, d_in) of every adapted layer, by its PEFT name without the ``lora_B`` suffix.
        backbone: sha256 of the frozen base weights.
    """

    shapes: Mapping[str, tuple[int, int, int]]
    backbone: str


@dataclass(frozen=True)
class SiteUpdate:
    """Everything a site sends in one round, and nothing else.

    Attributes:
        site: the sender.
        round: the round it answers.
        anchors: sha256 of the anchor manifest it used.
        delta: change of B in this round, (d_out, r) by layer name.
        magnitude: m, (d_out,) by layer name; empty while magnitudes are private.
        gram: cosines over the anchors the site covers, (b, b).
        slots: which anchor slots those are, ascending, b of them.
        weight: the site's precision p_k (or sample count, or 1), before normalisation.
        samples: number of local training samples.
        metrics: the numbers that the job names.
    """

    site: str
    round: int
    anchors: str
    delta: Mapping[str, Tensor]
    magnitude: Mapping[str, Tensor]
    gram: Tensor
    slots: tuple[int, ...]
    weight: float
    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GlobalState:
    """What the server holds after a round and broadcasts in the next.

    Attributes:
        round: number of completed rounds.
        anchors: sha256 of the anchor manifest.
        direction: B, (d_out, r) by layer name, float32.
        magnitude: mean m, (d_out,) by layer name; empty while magnitudes are private.
        consensus: Ḡ, (B, B), float32; NaN where fewer than two sites cover the pair.
    """

    round: int
    anchors: str
    direction: Mapping[str, Tensor]
    magnitude: Mapping[str, Tensor]
    consensus: Tensor
