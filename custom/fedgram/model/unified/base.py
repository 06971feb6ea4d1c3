"""What a unified multimodal model is: it answers questions about pictures, and makes pictures from words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL.Image import Image
from torch import Tensor, nn


class UnifiedModel(Protocol):
    """Frozen encoders around one language tower, which alone is adapted.

    What the frozen parts make of a picture is computed once and kept: ``see`` for understanding, ``targets`` for
    generation. Everything is on the model's device; N samples, L tokens, d the width of the tower.

    Attributes:
        tower: the language tower, called with ``inputs_embeds``; its layers have the names that
            :func:`fedgram.model.backbone.load_backbone` gives for the same checkpoint, so that a site with a
            unified model and one with a single modality train the same low-rank updates.
        head: what turns the tower's states into pictures; adapted too where a job says so.
    """

    tower: nn.Module
    head: nn.Module

    def see(self, images: Sequence[Image]) -> Tensor:
        """Frozen tokens for understanding, (N, L, d_v), float32."""
        ...

    def targets(self, images: Sequence[Image]) -> Tensor:
        """What generation learns to make: (N, T) codes, int64, or (N, T, c) features, float32."""
        ...

    def understanding_loss(self, seen: Tensor, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy of the answers' tokens, a scalar."""
        ...

    def generation_loss(self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator) -> Tensor:
        """Of making ``targets`` from prompts, a scalar; the generator draws dropped prompts, noise, times."""
        ...

    def understand(self, seen: Tensor, questions: Sequence[str]) -> list[str]:
        """Greedy answers."""
        ...

    def generate(self, prompts: Sequence[str], generator: torch.Generator) -> list[Image]:
        """One picture for each prompt."""
        ...

    def represent(self, seen: Tensor) -> Tensor:
        """z, (N, d), float32: mean of the tower's last states over the tokens of each picture; differentiable."""
        ...
