"""GeoLoRA and GeoDoRA, slow and obvious: the dense weight is built, normalised and applied."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_norm(weight: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    """‖W + s B A‖_row in float64."""
    return torch.linalg.vector_norm(weight.double() + s * b.double() @ a.double(), dim=1)


def dense_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float, m: Tensor | None
):
    """eq. (5), or eq. (4) without m; the norm is a constant to autograd (DoRA section 4.3)."""
    adapted = weight + s * b @ a
    if m is not None:
        adapted = (m / torch.linalg.vector_norm(adapted, dim=1).detach())[:, None] * adapted
    y = x @ adapted.T
    return y if bias is None else y + bias
