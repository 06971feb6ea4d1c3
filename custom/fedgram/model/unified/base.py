"""The protocol of a unified model: it answers questions about pictures, and makes pictures from words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from PIL.Image import Image
from torch import Tensor, nn

Untrained = Callable[[], AbstractContextManager[None]]  # within it the tower computes as the base does


class UnifiedModel(Protocol):
    """A unified model: frozen encoders around one language tower, which alone is adapted.

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
        """The targets of generation: (N, T) codes, int64, or (N, T, c) features, float32."""
        ...

    def identity(self, part: str) -> str:
        """Identify what ``see`` or ``targets`` computes: its weights, precision and way of reading pictures."""
        ...

    def understanding_loss(self, seen: Tensor, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy of the answers' tokens, a scalar."""
        ...

    def generation_loss(self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of making ``targets`` from prompts; the generator draws dropped prompts, noise, times."""
        ...

    def rehearsal_losses(
        self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator, untrained: Untrained
    ) -> tuple[Tensor, Tensor]:
        """The loss of making ``targets``, and how far the model has gone from its base there: two scalars.

        The second is learning without forgetting (Li & Hoiem 2016), the base's own prediction as the target.

        Args:
            prompts, targets, generator: as in :meth:`generation_loss`, which the first equals.
            untrained: enters the base, which is the target.
        """
        ...

    def understand(self, seen: Tensor, questions: Sequence[str]) -> list[str]:
        """Answer questions about pictures, greedily."""
        ...

    def generate(self, prompts: Sequence[str], generator: torch.Generator) -> list[Image]:
        """Make one picture for each prompt."""
        ...

    def represent(self, seen: Tensor) -> Tensor:
        """Representations z, (N, d), float32: the tower's last states, averaged over each picture's tokens."""
        ...
