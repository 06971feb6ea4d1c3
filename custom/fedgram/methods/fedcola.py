"""Shared attention in the manner of FedCola (Sun et al. 2024).

Kept: transformers of different modalities share their attention, and keep their feed-forward layers to
themselves. Changed: what is shared is the LoRA of the attention layers (A and B), not their weights; every site
has one modality, so the parts of FedCola for clients with paired data have nothing to do, and its compensation for
modalities that a client lacks is left out.
"""

from __future__ import annotations

import re

from fedgram.methods.fedit import FedIT

_ATTENTION = re.compile(r"(^|[._])attn|attention")


class SharedAttention(FedIT):
    """A and B of the attention layers are averaged, those of all others stay at the site."""

    name = "fedcola"
    title = "shared attention"
    source = "after FedCola, Sun et al. 2024"
    shares = "A and B of the attention layers"

    def shares_b(self, layer: str) -> bool:
        return bool(_ATTENTION.search(layer))

    def shares_a(self, layer: str) -> bool:
        return self.shares_b(layer)
