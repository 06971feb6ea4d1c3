"""Tiny transformers with GeoLoRA / GeoDoRA adapters, and a step through them."""

from __future__ import annotations

import torch
from fedgram.model import lora
from fedgram.model.attaching import attach
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

SETTINGS = {"rank": 4, "alpha": 6.0, "targets": "all-linear"}


SEED = 11


def llama(bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=16,
        attention_bias=bias,
        mlp_bias=bias,
    )
    model = LlamaModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model.to(dtype)


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=16
    )
    return BertModel(config, add_pooling_layer=False).eval()


def attached(backbone: nn.Module, with_m: bool = True):
    """An attached model with B away from 0 and m away from the norm."""
    model = attach(backbone, dora=with_m, seed=SEED, **SETTINGS)
    g = torch.Generator().manual_seed(1)
    lora.set_B(model, {k: 0.3 * torch.randn(b.shape, generator=g) for k, b in lora.get_B(model).items()})
    lora.set_m(model, {k: m * (1 + 0.2 * torch.randn(m.shape, generator=g)) for k, m in lora.get_m(model).items()})
    return model


def run(model: nn.Module, dtype: torch.dtype = torch.float32):
    """Output, and gradients of a loss that RMS norm does not make constant, by parameter name."""
    g = torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, 32, generator=g).to(dtype).requires_grad_()
    y = model(inputs_embeds=x).last_hidden_state
    (y.float().sin() * torch.randn(y.shape, generator=g)).sum().backward()
    grads = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    return y.detach(), grads | {"x": x.grad}
