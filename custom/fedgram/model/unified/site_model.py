"""A unified model whose tower trains, as rounds and methods see a site's model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from fedgram.model import lora
from fedgram.model.unified.base import UnifiedModel
from fedgram.records import Tokens

EVALUATION_BATCH = 32


class UnifiedSiteModel:
    """A unified model whose tower trains, as rounds, sessions and methods see a site's model.

    It has no adapter and no head of its own: nothing but the shared update trains, so ``local`` is empty.

    Attributes:
        unified: the model.
        transformer: its tower, wrapped by PEFT in place.
    """

    def __init__(self, unified: UnifiedModel, transformer: torch.nn.Module):
        self.unified, self.transformer = unified, transformer

    def represent(self, tokens: Tokens, *, adapter_learns: bool = True) -> Tensor:
        """Represent pictures as they are seen: z, (N, d), float32; there is no adapter that could learn."""
        return self.unified.represent(tokens.values)

    @torch.no_grad()
    def embed(self, tokens: Tokens) -> Tensor:
        """Represent many pictures, in batches, without gradient: z, (N, d), float32, on the CPU."""
        return torch.cat([self.unified.represent(part).cpu() for part in tokens.values.split(EVALUATION_BATCH)])

    def untrained(self) -> AbstractContextManager[None]:
        """Make the tower compute as the base does, within a ``with``."""
        return lora.untrained(self.transformer)

    def local(self) -> dict[str, torch.nn.Module]:
        """No parameters: nothing but the shared update trains."""
        return {}

    def local_state(self) -> dict[str, Tensor]:
        """No tensors: nothing is local."""
        return {}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over nothing: there is nothing local."""
