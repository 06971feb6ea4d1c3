"""Flow matching (Lipman et al. 2023) along straight lines between noise and data, as BLIP3o trains and samples it.

With x the data, ε the noise and σ from 1 (noise) to 0 (data): x_σ = (1 − σ) x + σ ε, so dx_σ/dσ = ε − x. Lipman's
time is t = 1 − σ and his velocity x₁ − x₀ = x − ε, the same with the other sign; BLIP3o's weights predict ε − x.
σ is uniform over k/1000, k = 1 … 1000: the scheduler that BLIP3o takes from Lumina-Next shifts no time (shift 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TIMES = 1000  # a time is shown to the denoiser as σ · TIMES
STEPS = 30
GUIDANCE = 3.0

Velocity = Callable[[Tensor, Tensor], Tensor]  # x_σ (N, T, c) and times (N,) → (N, T, c)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Draw a training batch's times: whole numbers from 1 to TIMES, (N,), float32, on the generator's device."""
    return 1.0 + torch.randint(TIMES, (count,), generator=generator, device=generator.device)


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal noise, float32, on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def matching_loss(velocity: Velocity, data: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The mean of ‖v(x_σ, σ) − (ε − x)‖² over all entries, a scalar.

    Args:
        data, noise: x and ε, (N, T, c).
        times: σ · TIMES, (N,).
    """
    return (predicted(velocity, data, noise, times) - (noise - data)).square().mean()


def predicted(velocity: Velocity, data: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The velocity v(x_σ, σ) on the line between data and noise, (N, T, c), float32; arguments as above."""
    sigma = (times / TIMES).view(-1, *[1] * (data.dim() - 1))
    return velocity((1.0 - sigma) * data + sigma * noise, times).float()


def integrate(velocity: Velocity, noise: Tensor, steps: int = STEPS) -> Tensor:
    """Go from noise to data by Euler steps: σ = 1, …, 1/steps evenly, then 0.

    Between whole times the denoiser, which was trained on whole ones, is shown the lower one, as in BLIP3o.
    """
    x, stride = noise, 1.0 / steps
    for left in range(steps, 0, -1):
        times = torch.full((len(x),), float(TIMES * left // steps), device=x.device)
        x = x - stride * velocity(x, times).to(x)
    return x


def guided(conditional: Velocity, unconditional: Velocity, scale: float = GUIDANCE) -> Velocity:
    """Apply classifier-free guidance (Ho & Salimans 2022): v_∅ + scale · (v − v_∅)."""

    def velocity(x: Tensor, times: Tensor) -> Tensor:
        without = unconditional(x, times)
        return without + scale * (conditional(x, times) - without)

    return velocity
