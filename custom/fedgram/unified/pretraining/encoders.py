"""The two frozen eyes of the small Janus, trained on pictures of every colour and shape, without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss, normalize

from fedgram.unified.pretraining.pictures import Pictures, looks_by_patch
from fedgram.unified.scenes import COLOURS, SHAPES

_DECAY = 0.95  # of the codes' running means
_RARE = 0.05  # uses a batch, below which a code begins anew


def train_vision(model: Any, pictures: Pictures, patch: int, steps: int, log: Callable[[str], None]) -> None:
    """Teach the vision tower which colour and shape each patch shows, and its pixels: what SigLIP's public
    pre-training is to the published Janus.

    Args:
        model: a ``JanusVisionModel``, trained in place.
        pictures: of the whole world.
        patch: side of a patch.
        steps: of AdamW, 32 pictures each.
        log: told how it goes.
    """
    size = pictures.pixels.shape[-1]
    colours, shapes = looks_by_patch(pictures.scenes, size, patch)
    inside = torch.nn.functional.unfold(pictures.pixels, patch, stride=patch).transpose(1, 2)
    widths = (len(COLOURS) + 1, len(SHAPES) + 1, inside.shape[-1])
    probe = nn.Linear(model.config.hidden_size, sum(widths))
    optimizer, schedule = adamw([*model.parameters(), *probe.parameters()], 2e-3, steps)
    for step, rows in enumerate(batches(len(pictures.pixels), 32, steps)):
        states = model(pictures.pixels[rows]).last_hidden_state
        colour, shape, pixels = probe(states).split(widths, -1)
        loss = (
            cross_entropy(colour.flatten(0, 1), colours[rows].flatten())
            + cross_entropy(shape.flatten(0, 1), shapes[rows].flatten())
            + mse_loss(pixels, inside[rows])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            right = (shape.argmax(-1) == shapes[rows])[shapes[rows] > 0].float().mean().item()
            log(f"vision {step + 1}: loss {loss.item():.3f}, shape of a patch {right:.3f}")


def train_tokeniser(model: Any, pictures: Pictures, steps: int, log: Callable[[str], None]) -> None:
    """Teach the VQ-VAE to draw pictures again from few codes of length 1 (van den Oord et al. 2017, with running
    means for the codes, its appendix A).

    Args:
        model: a ``JanusVQVAE``, trained in place.
        pictures: of the whole world.
        steps: of AdamW, 16 pictures each.
        log: told how it goes.
    """
    codes = model.quantize.embedding.weight
    uses, sums = torch.ones(len(codes)), torch.zeros_like(codes)
    trained = [p for p in model.parameters() if p is not codes]
    optimizer, schedule = adamw(trained, 1.5e-3, steps)
    for step, rows in enumerate(batches(len(pictures.pixels), 16, steps)):
        pixels = pictures.pixels[rows]
        latent = normalize(model.quant_conv(model.encoder(pixels)), dim=1)
        flat = latent.detach().permute(0, 2, 3, 1).flatten(0, 2)
        if step == 0:
            sums = _some(flat, len(codes))
            codes.data.copy_(sums)
        nearest = (flat @ codes.data.T).argmax(1)
        with torch.no_grad():
            hot = torch.zeros(len(flat), len(codes)).scatter_(1, nearest[:, None], 1.0)
            uses.lerp_(hot.sum(0), 1 - _DECAY)
            sums.lerp_(hot.T @ flat, 1 - _DECAY)
            rare = uses < _RARE
            uses[rare], sums[rare] = 1.0, _some(flat, int(rare.sum()))
            codes.data.copy_(normalize(sums, dim=1))
        chosen = codes.data[nearest].view(*latent.shape[:1], *latent.shape[2:], -1).permute(0, 3, 1, 2)
        drawn = model.decoder(model.post_quant_conv(latent + (chosen - latent).detach()))
        loss = l1_loss(drawn, pixels) + mse_loss(drawn, pixels) + mse_loss(latent, chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            log(f"tokeniser {step + 1}: loss {loss.item():.4f}, {len(nearest.unique())} codes in a batch")


def batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Rows at random, from torch's global generator."""
    for _ in range(steps):
        yield torch.randint(count, (size,))


def _some(rows: Tensor, count: int) -> Tensor:
    return rows[torch.randint(len(rows), (count,))]


def adamw(parameters: Iterable[nn.Parameter], rate: float, steps: int) -> tuple[Any, Any]:
    """The optimiser, and a learning rate that rises over a tenth of the steps to ``rate`` and then falls."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
