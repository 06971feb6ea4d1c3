"""Adapter, pooling and the shared transformer as one model; encoder and causal backbones alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError
from fedgram.model.backbone import fingerprint, load_backbone
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale, masked_mean, width
from fedgram.model.tasks.labels import Classification
from fedgram.pretrained import locate
from fedgram.records import Tokens
from lora_models import bert, llama


def model(backbone: torch.nn.Module, tokens: Tokens) -> SiteModel:
    generator = torch.Generator().manual_seed(0)
    adapter = TokenAdapter(tokens, width(backbone), embedding_scale(backbone), generator)
    head = Classification(("a", "b")).head(width(backbone), 6, generator)
    return SiteModel([adapter], backbone, head).eval()


def tokens(n: int = 5, length: int = 6, d_m: int = 7) -> Tokens:
    mask = torch.arange(length)[None, :] < torch.arange(2, 2 + n)[:, None]
    return Tokens(torch.randn(n, length, d_m), mask)


def test_masked_mean_by_hand():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(masked_mean(hidden, mask), torch.tensor([[2.0, 3.0], [0.0, 0.0]]))


@pytest.mark.parametrize("backbone", [bert, llama])
def test_padding_changes_nothing(backbone):
    given = tokens()
    site = model(backbone(), given)
    noise = Tokens(torch.where(given.mask[..., None], given.values, torch.randn(5, 6, 7)), given.mask)
    longer = Tokens(
        torch.cat([given.values, torch.randn(5, 3, 7)], 1), torch.cat([given.mask, torch.zeros(5, 3).bool()], 1)
    )
    z = site.represent(given)
    assert z.shape == (5, width(site.transformer))
    assert z.dtype == torch.float32
    torch.testing.assert_close(site.represent(noise), z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(site.represent(longer), z, atol=1e-5, rtol=1e-5)


def test_tokens_that_no_sample_has_are_not_computed(monkeypatch: pytest.MonkeyPatch):
    given = tokens(n=3)  # 2, 3 and 4 of 6 tokens are there
    site, lengths = model(bert(), given), []
    forward = site.transformer.forward
    monkeypatch.setattr(
        site.transformer,
        "forward",
        lambda **inputs: lengths.append(inputs["inputs_embeds"].shape[1]) or forward(**inputs),
    )
    hidden = site.hidden(given)
    assert lengths == [4]
    assert hidden.shape == (3, 6, 32)
    assert not hidden[:, 4:].any()
    alone = torch.cat([site.hidden(given[row : row + 1]) for row in range(3)])
    assert lengths == [4, 2, 3, 4]
    torch.testing.assert_close(alone[given.mask], hidden[given.mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", [bert, llama])
def test_samples_without_tokens_are_zeros_also_where_a_batch_has_no_others(backbone):
    given = tokens(n=3)
    site = model(backbone(), given)
    given.mask[1] = False
    z, alone = site.represent(given), site.represent(given[1:2])
    assert not z[1].any()
    assert torch.equal(alone, z[1:2])
    assert site.hidden(given[1:2]).shape == (1, 6, 32)


def test_the_adapter_starts_at_the_scale_of_the_embeddings():
    given = Tokens(1000 * torch.randn(64, 6, 7) + 300, torch.ones(64, 6).bool())
    adapter = TokenAdapter(given, 512, 0.02, torch.Generator().manual_seed(0))
    assert adapter(given.values).std().item() == pytest.approx(0.02, rel=0.15)


def test_a_constant_feature_does_not_blow_up():
    values = torch.randn(20, 3, 4)
    values[..., 2] = 5.0
    adapter = TokenAdapter(Tokens(values, torch.ones(20, 3).bool()), 8, 1.0, torch.Generator().manual_seed(0))
    assert torch.isfinite(adapter(values + 0.01)).all()
    assert adapter(values + 0.01).abs().max() < 100


def test_a_feature_is_never_enlarged_beyond_the_average_one():
    """Standard deviations 3, 1 and 0.2: the average is 1.4, and the two below it are divided by that."""
    signs = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]])
    values = (signs * torch.tensor([3.0, 1.0, 0.2]))[:, None]
    adapter = TokenAdapter(Tokens(values, torch.ones(4, 1).bool()), 8, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapter.inverse_std, 1 / torch.tensor([3.0, 1.4, 1.4]))


def test_tokens_that_are_all_alike_are_only_centred():
    values = torch.full((3, 1, 2), 0.1)  # whose deviation may be 0 or what rounding leaves
    adapter = TokenAdapter(Tokens(values, torch.ones(3, 1).bool()), 8, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapter.inverse_std, torch.ones(2))
    assert adapter(values + 1).isfinite().all()


def test_local_state_round_trip():
    given = tokens()
    first, second = model(bert(), given), model(bert(), tokens())
    assert not torch.equal(first.represent(given), second.represent(given))
    second.load_local_state({k: v.clone() for k, v in first.local_state().items()})
    torch.testing.assert_close(first.represent(given), second.represent(given))


def test_a_fingerprint_is_of_the_weights_not_of_the_precision(tmp_path: Path):
    bert().save_pretrained(tmp_path)
    load = {kind: load_backbone(BackboneConfig("x"), {"x": str(tmp_path)}, kind) for kind in ("fp32", "bf16")}
    prints = {fingerprint(model) for model in load.values()}
    assert len(prints) == 1
    changed = load["fp32"]
    next(changed.parameters()).data[0, 0] += 1
    assert fingerprint(changed) not in prints


def test_a_loaded_backbone_is_frozen_and_has_no_pooler(tmp_path: Path):
    bert().save_pretrained(tmp_path)
    backbone = load_backbone(BackboneConfig("x"), {"x": str(tmp_path)})
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.training
    assert not any("pooler" in name for name, _ in backbone.named_modules() if name != "pooler")


def test_a_packaged_model_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    assert Path(locate("minilm"), "config.json").is_file()
    assert locate("org/model") == "org/model"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'fedgram\[demo\]'"):
        locate("minilm")
