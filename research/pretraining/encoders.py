"""The two frozen eyes of the small Janus, trained on pictures of every colour and shape, without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fedgram.demo.shapes import COLOURS, SHAPES
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from research.pretraining.pictures import Pictures, looks_by_patch

_TEMPERATURE = 0.05  # of telling codes apart by their cosine
_BUSY = 4.0  # how much more a patch counts that shows something
_PLAIN = 0.05  # a patch that differs less from the ground is ground
_SAMPLE, _ROUNDS = 20000, 15  # patches and steps of k-means


def train_vision(model: Any, pictures: Pictures, patch: int, steps: int, log: Callable[[str], None]) -> None:
    """Teach the vision tower the colour, shape and pixels of each patch, as SigLIP's pre-training did for Janus.

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


def train_tokeniser(model: Any, pictures: Pictures, patch: int, steps: int, log: Callable[[str], None]) -> None:
    """Give the VQ-VAE a code for each kind of patch there is, and teach it to tell them and to draw them.

    The codes are k-means of the patches' pixels, on the unit sphere as Janus has them. So encoder and decoder
    learn by supervision, in a tenth of the steps that codes which move with them would take.

    Args:
        model: a ``JanusVQVAE``, trained in place.
        pictures: of the whole world.
        patch: side of what a code stands for.
        steps: of AdamW, 32 pictures each.
        log: told how it goes.
    """
    codes = model.quantize.embedding.weight
    patches = torch.nn.functional.unfold(pictures.pixels, patch, stride=patch).transpose(1, 2)
    centres = k_means(patches.flatten(0, 1), len(codes))
    codes.data.copy_(on_sphere(centres, codes.shape[1]))
    labels = torch.cdist(patches, centres[None]).argmin(-1)
    empty = labels.flatten().bincount().argmax()  # the ground
    trained = [p for p in model.parameters() if p is not codes]
    optimizer, schedule = adamw(trained, 2e-3, steps)
    for step, rows in enumerate(batches(len(labels), 32, steps)):
        pixels, wanted = pictures.pixels[rows], labels[rows]
        latent = model.quant_conv(model.encoder(pixels)).flatten(2).transpose(1, 2)
        likeness = normalize(latent, dim=-1) @ codes.data.T / _TEMPERATURE
        telling = cross_entropy(likeness.flatten(0, 1), wanted.flatten())
        told = codes.data[wanted].transpose(1, 2).unflatten(2, model.quantize.quant_state_dims)
        drawn = model.decoder(model.post_quant_conv(told))
        there = (wanted != empty).float().unflatten(1, model.quantize.quant_state_dims)
        weight = 1 + _BUSY * there.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
        drawing = ((drawn - pixels).abs() * weight).mean()
        optimizer.zero_grad()
        (telling + drawing).backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            right = (likeness.argmax(-1) == wanted)[wanted != empty].float().mean().item()
            log(f"tokeniser {step + 1}: drawing {drawing.item():.3f}, codes told {right:.3f}")


def k_means(rows: Tensor, count: int) -> Tensor:
    """``count`` centres of rows, (count, D): the most frequent row, and k-means of the different others."""
    ground = rows.mode(0).values
    busy = rows[((rows - ground).abs() > _PLAIN).any(1)].unique(dim=0)
    busy = busy[torch.randperm(len(busy))[:_SAMPLE]]
    centres = busy[torch.randperm(len(busy))[: count - 1]].clone()
    for _ in range(_ROUNDS):
        nearest = torch.cdist(busy, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, busy)
        sizes = nearest.bincount(minlength=len(centres))
        fresh = busy[torch.randint(len(busy), (len(centres),))]
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], fresh)
    return torch.cat([ground[None], centres])


def on_sphere(centres: Tensor, width: int) -> Tensor:
    """Centres by their ``width`` principal components, at length 1."""
    middle = centres - centres.mean(0)
    return normalize(middle @ torch.linalg.svd(middle, full_matrices=False)[2][:width].T, dim=1)


def batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Batches of row numbers at random, from torch's global generator."""
    for _ in range(steps):
        yield torch.randint(count, (size,))


def adamw(parameters: Iterable[nn.Parameter], rate: float, steps: int) -> tuple[Any, Any]:
    """The optimiser, and a learning rate that rises over a tenth of the steps to ``rate`` and then falls."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
