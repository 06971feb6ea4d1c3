"""MosaicBERT, the architecture of DNABERT-2, whose own code is not run (Portes 2023; Zhou 2023).

A BERT with attention biases that grow with distance (ALiBi, Press 2021) for position embeddings, and with gated
feed-forward layers. Parameter names are those of its checkpoints.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


def alibi_slopes(heads: int) -> list[float]:
    """Slopes by which each head's attention falls with distance: 2^(-8i/heads) where heads is a power of two.

    For another number, those of the next lower power of two, and then every second one of the next higher.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    return slopes if below == heads else slopes + alibi_slopes(2 * below)[::2][: heads - below]


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0])


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Attend: (N, L, d) states and an (N, heads, L, L) bias give (N, L, d)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.Wqkv(hidden).chunk(3, dim=-1)
        )
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


class _SelfOutput(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Attention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.self, self.output = _SelfAttention(config), _SelfOutput(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return self.output.LayerNorm(hidden + self.output.dense(self.self(hidden, bias)))


class _GatedLinearUnit(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, plain = self.gated_layers(hidden).chunk(2, dim=-1)
        return self.layernorm(hidden + self.wo(F.gelu(gate) * plain))


class _Layer(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention, self.mlp = _Attention(config), _GatedLinearUnit(config)


class _Encoder(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList([_Layer(config) for _ in range(config.num_hidden_layers)])


class MosaicBertModel(PreTrainedModel):
    """MosaicBERT's encoder without its pooler. It has no dropout: it is only ever used frozen."""

    config_class = BertConfig
    base_model_prefix = "bert"

    def __init__(self, config: BertConfig, **_: Any):
        super().__init__(config)
        self.embeddings, self.encoder = _Embeddings(config), _Encoder(config)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Hidden states (N, L, d) of token ids and mask, (N, L) each."""
        hidden = self.embeddings(input_ids)
        positions = torch.arange(input_ids.shape[1], device=hidden.device)
        slopes = hidden.new_tensor(alibi_slopes(self.config.num_attention_heads))
        bias = -slopes[:, None, None] * (positions[:, None] - positions).abs()
        bias = bias.masked_fill(attention_mask[:, None, None, :] == 0, torch.finfo(hidden.dtype).min)
        layers: Any = self.encoder.layer
        for layer in layers:
            hidden = layer.mlp(layer.attention(hidden, bias))
        return BaseModelOutput(last_hidden_state=hidden)
