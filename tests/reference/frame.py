"""The turn onto the frame by singular vectors, applied to the representations themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def by_procrustes(z: Tensor, anchors: Tensor, places: Tensor) -> Tensor:
    """(z/‖z‖ − μ) U Vᵀ with the singular vectors of (A/‖A‖ − μ)ᵀ T, (N, B)."""
    unit, mean = normalize(anchors.double(), dim=1), normalize(anchors.double(), dim=1).mean(0)
    u, s, v = torch.linalg.svd((unit - mean).T @ (places - places.mean(0)), full_matrices=False)
    kept = s > 1e-6 * s[0]
    return (normalize(z.double(), dim=1) - mean) @ u[:, kept] @ v[kept]
