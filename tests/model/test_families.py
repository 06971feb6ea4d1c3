"""Encoders and causal language models as shared transformer: small checkpoints of the families people have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import transformers as t
from fedgram.config.job import BackboneConfig
from fedgram.model.backbone import load_backbone
from fedgram.records import Tokens
from fedgram.sites.opening import open_site
from fedgram.sites.single import SingleSite
from fedgram.training import contracts, rounds
from fedgram.training.server import agree
from torch import nn
from toy import Toy

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
BERT = {**PLAIN, "vocab_size": 40, "max_position_embeddings": 64, **TOKENS}
GROUPED = {**BERT, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
DISTILLED = {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "vocab_size": 40}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "share_att_key": True,
}

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**BERT)),
    "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**{**BERT, "pad_token_id": 1})),
    "distilbert": lambda: t.DistilBertForMaskedLM(t.DistilBertConfig(**DISTILLED)),
    "mpnet": lambda: t.MPNetForMaskedLM(t.MPNetConfig(**BERT)),
    "electra": lambda: t.ElectraForPreTraining(t.ElectraConfig(**BERT, embedding_size=16)),
    "albert": lambda: t.AlbertForMaskedLM(t.AlbertConfig(**BERT, embedding_size=16)),
    "deberta-v2": lambda: t.DebertaV2ForMaskedLM(t.DebertaV2Config(**BERT, **RELATIVE)),
    "modernbert": lambda: t.ModernBertForMaskedLM(t.ModernBertConfig(**BERT, cls_token_id=3, sep_token_id=4)),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**GROUPED)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GROUPED)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**HEADS)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**HEADS)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**HEADS)),
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**GROUPED)),
    "smollm3": lambda: t.SmolLM3ForCausalLM(t.SmolLM3Config(**GROUPED)),
    "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**GROUPED)),
    "gpt-neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**BERT)),
}
CAUSAL = set(FAMILIES) - {
    "bert",
    "roberta",
    "distilbert",
    "mpnet",
    "electra",
    "albert",
    "deberta-v2",
    "modernbert",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root, found = tmp_path_factory.mktemp("families"), {}
    for name, make in FAMILIES.items():
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():  # an attention of random weights hardly looks at the others
            parameter.data *= 4 if parameter.dim() > 1 else 1
        model.save_pretrained(root / name)
        found[name] = str(root / name)
    return found


def every_family(test):
    return pytest.mark.parametrize("family", sorted(FAMILIES))(test)


def opened(family: str, folders: dict[str, str], toy: Toy) -> SingleSite:
    job = toy.with_job(backbone={"name": family}, training={"local_steps": 2}).job
    return open_site("red", dataclasses.replace(toy.sites["red"], backbones=folders), job)


@every_family
def test_a_round_of_training_changes_every_layer(family: str, folders: dict[str, str], toy: Toy):
    site = opened(family, folders, toy)
    introduction = rounds.introduce(site)
    assert introduction.spec.width == 32
    state = agree([introduction, dataclasses.replace(introduction, site="green")], site.job)[0].state
    update = rounds.local_round(site, state)
    contracts.check_update(update, state, site.job, {}, {})
    assert all(delta.abs().sum() > 0 for delta in update.delta_B.values())


@every_family
def test_what_is_masked_means_nothing(family: str, folders: dict[str, str], toy: Toy):
    """At the end, inside, at the beginning, alone and in a batch."""
    site = opened(family, folders, toy)
    length, width = site.data["train"].tokens.values.shape[1:]
    mask = torch.ones(4, length, dtype=torch.bool)
    mask[1, length // 2 :] = mask[2, 1:2] = mask[3, :1] = False
    given = Tokens(torch.randn(4, length, width), mask)
    noise = Tokens(torch.where(mask[..., None], given.values, 9 * torch.randn(4, length, width)), mask)
    z = site.model.represent(given)
    assert z.shape == (4, 32)
    torch.testing.assert_close(site.model.represent(noise), z, rtol=1e-4, atol=1e-5)
    alone = torch.cat([site.model.represent(given[row : row + 1]) for row in range(4)])
    torch.testing.assert_close(alone, z, rtol=1e-4, atol=1e-4)


@every_family
def test_attention_is_that_of_the_family(family: str, folders: dict[str, str]):
    """A later token changes an earlier one in an encoder and does not in a causal model."""
    backbone = load_backbone(BackboneConfig(family), folders)
    width = backbone.get_input_embeddings().weight.shape[1]
    x = torch.randn(1, 6, width)
    changed = x.clone()
    changed[0, -1] += 1
    before, after = (backbone(inputs_embeds=v).last_hidden_state[0, 2] for v in (x, changed))
    assert torch.equal(before, after) == (family in CAUSAL)
