"""One site's model: local linear adapter → shared transformer → masked mean pooling → local head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fedgram.records import Tokens

EVALUATION_BATCH = 128


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Pool by the mean over the tokens that are there: (N, L, d), (N, L) → (N, d); no tokens give zeros."""
    weights = mask.to(hidden).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


class TokenAdapter(nn.Module):
    """A site's adapter z⁰ = W_m φ_m(x) on standardised tokens: all that trains on the input side; never sent.

    The tokens are first standardised by constants of the site's training tokens, which makes one learning
    rate right for every modality; the map as a whole stays affine in φ. A feature that varies less than the
    average one is divided by the average standard deviation: few samples say too little about it to enlarge it.
    The output starts at the scale of the transformer's own token embeddings.

    Args:
        tokens: training tokens, (N, L, d_m), for the constants.
        width: d.
        scale: standard deviation of the transformer's token embeddings.
        generator: of the initial weights.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, tokens: Tokens, width: int, scale: float, generator: torch.Generator):
        super().__init__()
        present = tokens.values[tokens.mask]
        d_m = present.shape[-1]
        self.register_buffer("mean", present.mean(0))
        std = present.std(0, correction=0)
        least = float(std.mean()) if (present != present[0]).any() else 1.0  # tokens all alike are only centred
        self.register_buffer("inverse_std", 1.0 / std.clamp(min=least))
        self.linear = nn.Linear(d_m, width)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(width, d_m, generator=generator) * scale / d_m**0.5)
            self.linear.bias.zero_()

    def forward(self, values: Tensor) -> Tensor:
        """Map tokens to the transformer's width, (N, L, d_m) → (N, L, d)."""
        return self.linear((values - self.mean) * self.inverse_std)


class LocalModel(Protocol):
    """A site's model of whatever kind: the shared transformer, and the parts that are the site's own."""

    @property
    def transformer(self) -> nn.Module: ...
    def represent(self, tokens: Tokens, *, adapter_learns: bool = True) -> Tensor:
        """Representations z, (N, d), float32, with gradient; it reaches the site's adapter only if that learns."""
        ...

    def embed(self, tokens: Tokens) -> Tensor:
        """Representations z of many samples, (N, d), float32, on the CPU, without gradient."""
        ...

    def local(self) -> Mapping[str, nn.Module]:
        """The parameters that are the site's own: trained at the local rate, never sent."""
        ...

    def local_state(self) -> dict[str, Tensor]:
        """The site's own parameters by name, for its own files."""
        ...

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`local_state` gave."""
        ...


class SiteModel(nn.Module):
    """The model of one site: f_θ(W_m φ_m(x)) with pooling, and the site's head on top.

    Attributes:
        adapters: W_m of each of the site's channels into the same transformer, local; one or two.
        transformer: the PEFT-wrapped shared transformer.
        head: maps token representations (N, L, d) and mask (N, L) to the task's outputs, local.
    """

    def __init__(self, adapters: Sequence[TokenAdapter], transformer: nn.Module, head: nn.Module):
        super().__init__()
        self.adapters, self.transformer, self.head = nn.ModuleList(adapters), transformer, head

    def hidden(self, tokens: Tokens, *, adapter_learns: bool = True, channel: int = 0) -> Tensor:
        """Token representations, (N, L, d), float32; gradients reach the channel's adapter only if it learns.

        What stands at a masked token means nothing. Tokens at the end that no sample of the batch has are not
        computed: they are 0.
        """
        dtype = input_embeddings(self.transformer).weight.dtype
        length = tokens.mask.shape[1]
        there = tokens.mask.any(0).nonzero()
        filled = int(there.max()) + 1 if len(there) else 1
        embedded = self.adapters[channel](tokens.values[:, :filled])
        if not adapter_learns:
            embedded = embedded.detach()
        mask = tokens.mask[:, :filled].long()
        hidden = self.transformer(inputs_embeds=embedded.to(dtype), attention_mask=mask).last_hidden_state
        return pad(hidden.float(), (0, 0, 0, length - filled))

    def represent(self, tokens: Tokens, *, adapter_learns: bool = True, channel: int = 0) -> Tensor:
        """Representations z, (N, d), float32."""
        return masked_mean(self.hidden(tokens, adapter_learns=adapter_learns, channel=channel), tokens.mask)

    @torch.no_grad()
    def embed(self, tokens: Tokens, *, channel: int = 0) -> Tensor:
        """Represent many samples, in batches, without gradient: z, (N, d), float32, on the CPU."""
        device = next(self.head.parameters()).device
        rows = torch.arange(len(tokens)).split(EVALUATION_BATCH)
        return torch.cat([self.represent(tokens[part].to(device), channel=channel).cpu() for part in rows])

    def forward(self, tokens: Tokens) -> Tensor:
        """The head's output."""
        return self.head(self.hidden(tokens), tokens.mask)

    def local(self) -> dict[str, nn.Module]:
        """The parameters that are the site's own: trained at the local rate, never sent."""
        first, *second = self.adapters
        return {"adapter": first, "head": self.head, **dict(zip(["bridge"], second, strict=False))}

    def local_state(self) -> dict[str, Tensor]:
        """Adapters and head by name, for the site's own files."""
        return {f"{part}.{k}": v for part, module in self.local().items() for k, v in module.state_dict().items()}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over adapters and head as :meth:`local_state` gave them."""
        for part, module in self.local().items():
            own = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
            module.load_state_dict(own)


def embedding_scale(transformer: nn.Module) -> float:
    """Standard deviation of the transformer's token embeddings: the scale its first layer expects.

    Some models (Gemma) multiply the rows of their table by a constant before the first layer; what is given as
    ``inputs_embeds`` is not multiplied again.
    """
    table = input_embeddings(transformer)
    rows = torch.arange(min(64, table.weight.shape[0]), device=table.weight.device)
    with torch.no_grad():
        factor = table(rows).float().norm() / table.weight[rows].float().norm()
    return (table.weight.detach().float().std() * factor).item()


def width(transformer: nn.Module) -> int:
    """The width d of the transformer's token embeddings."""
    return input_embeddings(transformer).weight.shape[1]


def hidden_width(transformer: nn.Module) -> int:
    """The width of the hidden states; some models (ALBERT, small ELECTRA) project narrower embeddings to it."""
    config: Any = transformer.config
    return config.hidden_size


def input_embeddings(transformer: nn.Module) -> nn.Embedding:
    """The transformer's own table of token embeddings."""
    model: Any = transformer
    return model.get_input_embeddings()
