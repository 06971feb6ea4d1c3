"""FedSA-LoRA (Guo et al. 2025): A is averaged, B stays at the site.

Kept: both train; A is thought to hold what is general and B what is particular. Changed: as in FedIT.
"""

from __future__ import annotations

from fedgram.methods.fedit import FedIT


class FedSALoRA(FedIT):
    """A alone is averaged."""

    name = "fedsa"
    title = "FedSA-LoRA"
    source = "Guo et al. 2025"
    shares = "A"

    def shares_b(self, layer: str) -> bool:
        return False
