"""Flow matching as BLIP3o does it: against slow loops, values worked by hand, and diffusers' own scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from fedgram.model.unified.blip3o import flow
from torch import Tensor


def slow_loss(velocity: flow.Velocity, data: Tensor, noise: Tensor, times: Tensor) -> float:
    total, count = 0.0, 0
    for n, time in enumerate(times.tolist()):
        sigma = time / 1000
        between = torch.zeros_like(data[n])
        for t in range(data.shape[1]):
            for c in range(data.shape[2]):
                between[t, c] = (1 - sigma) * data[n, t, c] + sigma * noise[n, t, c]
        predicted = velocity(between[None], times[n : n + 1])[0]
        for t in range(data.shape[1]):
            for c in range(data.shape[2]):
                total += (predicted[t, c] - (noise[n, t, c] - data[n, t, c])).item() ** 2
                count += 1
    return total / count


def test_the_loss_by_hand():
    """x = 2, ε = 4, σ = ½: the point between is 3 and the velocity 2; one that predicts 3 is wrong by 1."""
    data, noise = torch.tensor([[[2.0]]]), torch.tensor([[[4.0]]])
    assert flow.matching_loss(lambda x, times: x, data, noise, torch.tensor([500.0])).item() == pytest.approx(1.0)
    # σ = ¼: between is 2½, off by ½.
    assert flow.matching_loss(lambda x, times: x, data, noise, torch.tensor([250.0])).item() == pytest.approx(0.25)


def test_the_loss_equals_the_slow_one():
    mixing = torch.randn(5, 5)

    def velocity(x: Tensor, times: Tensor) -> Tensor:
        return x @ mixing + times[:, None, None] / 500

    data, noise = torch.randn(4, 9, 5), torch.randn(4, 9, 5)
    times = torch.tensor([1.0, 1000.0, 333.0, 700.0])
    fast = flow.matching_loss(velocity, data, noise, times).item()
    assert fast == pytest.approx(slow_loss(velocity, data, noise, times), rel=1e-5)


def test_the_velocity_of_the_line_has_no_loss():
    data, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    assert flow.matching_loss(lambda x, t: noise - data, data, noise, torch.full((3,), 9.0)).item() == 0.0


@pytest.mark.parametrize(("rate", "steps"), [(0.7, 4), (-1.5, 30), (2.0, 1)])
def test_euler_on_a_linear_field_is_a_power(rate, steps):
    """dx/dσ = a x from σ = 1 to 0 in n equal steps multiplies by (1 − a/n) each time."""
    noise = torch.randn(2, 4, 3, dtype=torch.float64)
    x = flow.integrate(lambda x, times: rate * x, noise, steps)
    assert torch.allclose(x, (1 - rate / steps) ** steps * noise)


def test_euler_on_a_linear_field_converges_to_its_solution():
    noise = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = [
        abs(flow.integrate(lambda x, times: 0.7 * x, noise, steps).item() - 0.4965853037914095)  # e^-0.7
        for steps in (10, 100, 1000)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_on_the_straight_line_one_step_is_exact():
    data, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    assert torch.allclose(flow.integrate(lambda x, times: noise - data, noise, 1), data, atol=1e-6)


def test_the_sampler_is_that_of_diffusers():
    """BLIP3o's loop: sigmas from 1 to 1/steps, times cut to whole numbers."""
    mixing = 0.3 * torch.randn(3, 3)
    seen: list[list[float]] = [[], []]

    def velocity(which: int):
        def field(x: Tensor, times: Tensor) -> Tensor:
            seen[which].append(times[0].item())
            return x @ mixing * (times[0] / 1000)

        return field

    noise, scheduler = torch.randn(1, 4, 3), FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(flow.STEPS, sigmas=np.linspace(1.0, 1 / flow.STEPS, flow.STEPS))
    x, theirs = noise, velocity(0)
    for time in scheduler.timesteps:
        x = scheduler.step(theirs(x, time.long().float().expand(1)), time, x).prev_sample
    ours = flow.integrate(velocity(1), noise)
    assert seen[0] == seen[1]
    assert torch.allclose(ours, x, atol=1e-5)


def test_times_are_whole_and_reach_both_ends():
    times = flow.draw_times(20_000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float32
    assert torch.equal(times, times.round())
    assert (times.min().item(), times.max().item()) == (1.0, 1000.0)
    assert times.mean().item() == pytest.approx(500.5, abs=8)  # uniform: 4 standard errors


def test_guidance_goes_from_one_field_past_the_other():
    def given(x: Tensor, times: Tensor) -> Tensor:
        return torch.full_like(x, 5.0)

    def without(x: Tensor, times: Tensor) -> Tensor:
        return torch.full_like(x, 2.0)

    x, times = torch.zeros(1, 1, 1), torch.ones(1)
    at = {scale: flow.guided(given, without, scale)(x, times).item() for scale in (0.0, 1.0, 3.0)}
    assert at == {0.0: 2.0, 1.0: 5.0, 3.0: 11.0}


def test_draws_repeat_with_the_seed():
    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([flow.draw_times(4, generator), flow.draw_noise((4,), generator)])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
