"""Words that are in a text site's ΔB, found by optimisation (Zhu et al. 2019; Geiping et al. 2020).

In the place of the site's text the attacker puts tokens that may have any value, and a class that may be any
mixture, and moves both until their own step is as near to ΔB as it gets. ΔB has but the signs of the gradient, so
the attacker's gradient is pressed towards signs, too. At the end each token is called by the nearest one of all
texts, or of others' texts alone. How long the text is the attacker knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from fedgram.model import lora
from fedgram.model.site_model import SiteModel
from fedgram.records import Tokens
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, normalize

from research.leakage.inversion import Gallery, scene, steps
from research.leakage.measures import Finding, compared
from research.leakage.sites import secret_of, stand_in

KNOWS = ("start", "guess")
_STEPS, _RATE = 100, 0.1


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view and measure: F1 of the named words against those of the batch."""
    site, order = scene(knows, epsilon, seed, folder)
    attacker, tried = stand_in(site, order, secret_of("attacker", seed), "site-0"), steps(site, order, seed)
    gallery, model = Gallery(attacker), attacker.model
    lengths = [gallery.bag(case.rows.tolist()).total() for case in tried]
    known = normalize(_standard(model, attacker.data["train"].tokens.values), dim=-1)[:, : gallery.there.shape[1]]
    found = {}
    for view in ("own", "sum"):
        made = invented(model, [case.seen[view] for case in tried], lengths, seed)
        for name, tokens in (("all", gallery.there), ("other", gallery.away)):
            nearest = [(normalize(own, dim=1) @ known[tokens].T).argmax(1) for own in made]
            scores = [gallery.scored(near, tokens, case) for near, case in zip(nearest, tried, strict=True)]
            found[view, f"batch of 1: words, tokens of {name} texts"] = compared(scores)
    return found


def invented(
    model: SiteModel, seen: Sequence[Mapping[str, Tensor]], lengths: Sequence[int], seed: int
) -> list[Tensor]:
    """Standardised tokens whose own first step is as near as can be to what was seen, (L, d_m) of each case.

    Args:
        seen: of each case, ΔB by layer.
        lengths: L.
    """
    adapter: Any = model.adapters[0]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(*mask.shape, len(adapter.mean), generator=generator).requires_grad_()
    with torch.no_grad():
        classes = torch.zeros_like(model(_raw(model, tokens, mask))).requires_grad_()
    goal = {name: -torch.stack([delta[name].float() for delta in seen]) for name in seen[0]}
    optimizer = torch.optim.Adam([tokens, classes], lr=_RATE)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _STEPS)
    for _ in range(_STEPS):
        likeness = _cosines(step_gradients(model, _raw(model, tokens, mask), classes), goal)
        tokens.grad, classes.grad = torch.autograd.grad(-likeness.sum(), [tokens, classes])
        optimizer.step()
        falling.step()
    return [own[there].detach() for own, there in zip(tokens, mask, strict=True)]


def step_gradients(model: SiteModel, tokens: Tokens, classes: Tensor) -> dict[str, Tensor]:
    """The gradient in B of each sample by itself at B = 0, over s, that can be differentiated: (N, d_out, r).

    The layers of fedgram have no second derivative, so the base's stand in for them: with B = 0 they are the same.

    Args:
        classes: logits of a mixture of classes, (N, C).
    """
    low: dict[str, Tensor] = {}
    out: dict[str, Tensor] = {}

    def plain(name: str, layer: Any) -> Any:
        def forward(x: Tensor) -> Tensor:
            low[name], out[name] = x @ layer.A.T, layer.get_base_layer()(x)
            return out[name]

        return forward

    layers = lora.adapted_layers(model.transformer)
    with ExitStack() as undone, sdpa_kernel(SDPBackend.MATH):  # other kernels have no second derivative
        for name, layer in layers.items():
            undone.enter_context(patch.object(layer, "forward", plain(name, layer)))
        loss = cross_entropy(model(tokens), classes.softmax(1), reduction="sum")
    back = torch.autograd.grad(loss, [*out.values()], create_graph=True)
    return {name: torch.einsum("nto,ntr->nor", g, low[name]) for name, g in zip(out, back, strict=True)}


def _cosines(gradients: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> Tensor:
    """The cosine of each sample's smoothed signs with what was seen of it, over all layers: (N,)."""
    product = ours = theirs = torch.zeros(())
    for name, wanted in goal.items():
        g = gradients[name]
        scale = g.square().mean((1, 2), keepdim=True) + 1e-30
        signs = g / (g.square() + scale).sqrt()  # one well below the layer's usual size has none yet
        product = product + (signs * wanted).sum((1, 2))
        ours, theirs = ours + signs.square().sum((1, 2)), theirs + wanted.square().sum((1, 2))
    return product / (ours * theirs).sqrt()


def _standard(model: SiteModel, values: Tensor) -> Tensor:
    """Tokens as the site's adapter takes them for standard."""
    adapter: Any = model.adapters[0]
    return (values - adapter.mean) * adapter.inverse_std


def _raw(model: SiteModel, standard: Tensor, mask: Tensor) -> Tokens:
    adapter: Any = model.adapters[0]
    return Tokens(standard / adapter.inverse_std + adapter.mean, mask)
