"""A result in stock tools: PEFT loads the adapter, AutoModel the merged checkpoint, and both give the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fedgram
import pytest
import torch
import vlms
from fedgram.cli.main import app
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError, CheckpointError
from fedgram.methods import METHODS
from fedgram.methods.base import merged
from fedgram.model import lora, peft_checkpoint
from fedgram.model.attaching import attach
from fedgram.model.backbone import fingerprint, load_backbone
from fedgram.pretrained import hub_id
from fedgram.results import report
from fedgram.results.merge import merge
from fedgram.sites.single import SingleSite
from fedgram.sites.state import FORMAT
from fedgram.training.loop import run_federation
from peft import PeftModel
from torch import Tensor
from toy import Toy
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # stock PEFT 0.21

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 16,
}


@pytest.fixture(scope="module")
def site(finished: Path) -> SingleSite:
    return fedgram.load(finished, site="red").site


@torch.no_grad()
def hidden(model: torch.nn.Module, site: SingleSite) -> Tensor:
    """Hidden states of the site's anchors, through its own adapter."""
    tokens = site.anchors.tokens
    embedded = site.model.adapters[0](tokens.values).to(next(model.parameters()).dtype)
    return model(inputs_embeds=embedded, attention_mask=tokens.mask.long()).last_hidden_state


def test_stock_peft_loads_a_sites_checkpoint(toy: Toy, finished: Path, site: SingleSite):
    base = AutoModel.from_pretrained(toy.root / "tiny")
    stock = PeftModel.from_pretrained(base, str(finished / "fedgram/red/result/adapter"))
    torch.testing.assert_close(hidden(stock, site), site.model.hidden(site.anchors.tokens), atol=1e-5, rtol=1e-5)


def test_a_sites_result_merges_into_a_plain_model(finished: Path, site: SingleSite, tmp_path: Path):
    merge(finished / "fedgram/red/result", tmp_path / "merged")
    plain = AutoModel.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        expected = site.model.hidden(site.anchors.tokens)
    torch.testing.assert_close(hidden(plain, site), expected, atol=1e-5, rtol=1e-5)
    base = load_backbone(BackboneConfig("tiny"), site.config.backbones)
    assert (hidden(base, site) - expected).abs().max() > 0.01  # the update did something
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_the_servers_result_merges_too(toy: Toy, finished: Path, site: SingleSite, tmp_path: Path):
    """With averaged m: B and m of the server, in another site's model."""
    done = CliRunner().invoke(
        app, ["merge", str(finished / "server"), str(tmp_path / "merged"), "--base", str(toy.root / "tiny")]
    )
    assert done.exit_code == 0, done.output
    stock = PeftModel.from_pretrained(
        AutoModel.from_pretrained(toy.root / "tiny"), str(finished / "server/adapter")
    )
    plain = AutoModel.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(hidden(plain, site), hidden(stock, site), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["fedex", "flora"])
def test_what_a_method_adds_to_the_base_is_merged_too(name: str, toy: Toy, tmp_path: Path):
    """The residual R, which a PEFT checkpoint cannot hold; the server of FLoRA has no other update at all."""
    sites = {site: replace(config, methods=(name,)) for site, config in toy.sites.items()}
    settings = merged(METHODS[name].settings, {"method": {"name": name}})
    run = replace(toy, sites=sites).with_job(**settings, baseline=False)
    sessions = run.sessions(tmp_path / "sites")
    outcome = run_federation(sessions, run.job, tmp_path / "state")
    report.write_server_files(tmp_path / "server", outcome.server, run.job)
    site, base = sessions["red"].site, toy.root / "tiny"
    site.method.adopt(site, outcome.server.state)
    lora.set_B(site.model.transformer, {**lora.get_B(site.model.transformer), **outcome.server.state.B})
    with torch.no_grad():
        expected = site.model.hidden(site.anchors.tokens)
    assert any(r.abs().max() > 1e-4 for r in lora.get_residual(site.model.transformer).values())
    merge(tmp_path / "server", tmp_path / "merged", base=base)
    torch.testing.assert_close(
        hidden(AutoModel.from_pretrained(tmp_path / "merged"), site), expected, atol=1e-5, rtol=1e-5
    )
    kept = fedgram.load(tmp_path / "sites", site="red").site
    merge(tmp_path / "sites/red/result", tmp_path / "own", base=base)
    with torch.no_grad():
        expected = kept.model.hidden(kept.anchors.tokens)
    torch.testing.assert_close(
        hidden(AutoModel.from_pretrained(tmp_path / "own"), kept), expected, atol=1e-5, rtol=1e-5
    )


def result_of(folder: Path, backbone: BackboneConfig, base: str, dora: bool) -> torch.nn.Module:
    """A server's result with a random update, and the adapted model itself."""
    transformer = load_backbone(backbone, {backbone.name: base})
    weights = fingerprint(transformer)
    model = attach(transformer, rank=4, alpha=8.0, targets="all-linear", dora=dora, seed=0)
    generator = torch.Generator().manual_seed(0)
    lora.set_B(model, {k: torch.randn(v.shape, generator=generator) for k, v in lora.get_B(model).items()})
    lora.set_m(model, {k: 1.3 * v for k, v in lora.get_m(model).items()})
    pin = {"sha256": "0" * 64, "concepts": ["a"] * 4}
    job = {"anchors": pin, "backbone": {"name": backbone.name, "layers": backbone.layers}}
    (folder / "metrics.json").write_text(json.dumps({"format": FORMAT, "job": job, "backbone": weights}))
    peft_checkpoint.save_adapter(
        folder / "adapter",
        B=lora.get_B(model),
        m=lora.get_m(model),
        shapes=lora.spec(model),
        seed=0,
        rank=4,
        alpha=8.0,
        base_model=backbone.name,
    )
    return model.eval()


def test_a_cut_backbone_is_merged_as_it_was_trained(toy: Toy, site: SingleSite, tmp_path: Path):
    """One of two layers: the plain model must not have the other back."""
    base = toy.root / "tiny"
    model = result_of(tmp_path, BackboneConfig("tiny", layers=1), str(base), dora=False)
    merge(tmp_path, tmp_path / "merged", base=base)
    plain = AutoModel.from_pretrained(tmp_path / "merged")
    assert plain.config.num_hidden_layers == 1
    torch.testing.assert_close(hidden(plain.double(), site), hidden(model.double(), site), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tied_embeddings_stay_tied(tmp_path: Path):
    """The head of a language model, which is its table of embeddings, is merged with it and not drawn anew."""
    torch.manual_seed(0)
    whole = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
    whole.save_pretrained(tmp_path / "base")
    (tmp_path / "result").mkdir()
    model = result_of(tmp_path / "result", BackboneConfig("tiny"), str(tmp_path / "base"), dora=True)
    merge(tmp_path / "result", tmp_path / "merged", base=tmp_path / "base")
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is True
    plain, report = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not report["missing_keys"]
    x = torch.randn(2, 5, 32)
    expected = model(inputs_embeds=x).last_hidden_state @ whole.get_input_embeddings().weight.T
    torch.testing.assert_close(plain.eval()(inputs_embeds=x).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", vlms.FAMILIES)
@torch.no_grad()
def test_the_language_tower_of_a_vision_language_model(family: str, tmp_path: Path):
    """Two of three layers, adapted and merged, load as a model of their own and see padding as the tower did."""
    base = vlms.save(family, tmp_path / "base")
    model = result_of(tmp_path, BackboneConfig("vlm", layers=2), base, dora=True)
    merge(tmp_path, tmp_path / "merged", base=Path(base))
    plain = AutoModel.from_pretrained(tmp_path / "merged")
    x = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    expected, found = (m(inputs_embeds=x, attention_mask=mask).last_hidden_state for m in (model, plain))
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=1e-4)


def test_half_as_many_bytes(finished: Path, site: SingleSite, tmp_path: Path):
    merge(finished / "fedgram/red/result", tmp_path / "full")
    merge(finished / "fedgram/red/result", tmp_path / "half", bf16=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    plain = AutoModel.from_pretrained(tmp_path / "half", dtype=torch.float32)
    torch.testing.assert_close(
        hidden(plain, site), hidden(AutoModel.from_pretrained(tmp_path / "full"), site), atol=0.1, rtol=0.1
    )


def test_what_cannot_be_merged(toy: Toy, finished: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="no result of a run"):
        merge(tmp_path, tmp_path / "merged")
    with pytest.raises(CheckpointError, match="already exists"):
        merge(finished / "server", finished)
    other = AutoModel.from_pretrained(toy.root / "tiny")
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1.0)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(BackboneError, match="on which this result was trained"):
        merge(finished / "server", tmp_path / "merged", base=tmp_path / "other")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_cut_or_missing_adapter(name: str, cut: bool, toy: Toy, finished: Path, tmp_path: Path):
    shutil.copytree(finished / "server", tmp_path / "result")
    file = tmp_path / "result" / "adapter" / name
    file.write_bytes(file.read_bytes()[:50]) if cut else file.unlink()
    with pytest.raises(CheckpointError, match=name):
        merge(tmp_path / "result", tmp_path / "merged", base=toy.root / "tiny")
    assert not (tmp_path / "merged").exists()


def test_checkpoints_name_a_base_that_others_find():
    assert hub_id("minilm") == "sentence-transformers/all-MiniLM-L6-v2"
    assert hub_id("org/name") == "org/name"
