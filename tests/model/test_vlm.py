"""The language tower of a vision-language model as shared transformer, each family from its own checkpoint."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import vlms
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError
from fedgram.model import lora, peft_checkpoint
from fedgram.model.attaching import attach
from fedgram.model.backbone import fingerprint, load_backbone, weight_bytes
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale, width
from fedgram.records import Tokens
from fedgram.sites.opening import open_site
from fedgram.training import contracts, rounds
from fedgram.training.server import agree
from lora_models import SEED, SETTINGS
from safetensors.torch import load_file, save_file
from torch import nn
from toy import Toy
from transformers import AutoModel, T5Config, T5Model

FAMILIES = sorted(vlms.FAMILIES)
HIDDEN, LENGTH = 32, 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("vlms")
    return {family: vlms.save(family, root / family) for family in FAMILIES}


def every_family(test):
    return pytest.mark.parametrize("family", FAMILIES)(test)


def load(family: str, folders: dict[str, str], layers: int | None = None, precision="fp32") -> nn.Module:
    return load_backbone(BackboneConfig(family, layers), folders, precision)


def masks() -> torch.Tensor:
    """(4, L): nothing missing, padding at the end, tokens missing inside, the first tokens missing."""
    mask = torch.ones(4, LENGTH, dtype=torch.bool)
    mask[1, 5:] = mask[2, 3:5] = mask[3, :2] = False
    return mask


def attached(backbone: nn.Module) -> nn.Module:
    model = attach(backbone, dora=True, seed=SEED, **SETTINGS)
    g = torch.Generator().manual_seed(1)
    lora.set_B(model, {k: 0.3 * torch.randn(b.shape, generator=g) for k, b in lora.get_B(model).items()})
    return model


@every_family
@pytest.mark.parametrize("layers", [None, 2])
def test_the_tower_gives_what_the_whole_model_gives(family: str, layers: int | None, folders: dict[str, str]):
    """On the same embeddings; the sequence is longer than PaliGemma 2's sliding window."""
    whole = AutoModel.from_pretrained(folders[family]).eval()
    tower = load(family, folders, layers)
    assert not [name for name, _ in tower.named_parameters() if "vision" in name or "visual" in name]
    decoder = whole.get_decoder()
    if layers:
        decoder.layers = decoder.layers[:layers]
    assert len(tower.layers) == (layers or 3)
    x, mask = torch.randn(4, LENGTH, HIDDEN), masks()
    inputs = {"inputs_embeds": x, "attention_mask": mask.long()}
    if "paligemma" in family:  # 0 is what its processor gives image and prompt
        inputs["token_type_ids"] = torch.zeros_like(mask, dtype=torch.long)
    expected = whole(**inputs).last_hidden_state
    got = tower(inputs_embeds=x, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(got[mask], expected[mask], rtol=1e-5, atol=2e-6)
    for row in range(len(x)):  # a batch without padding takes another path through the mask
        alone = {k: v[row : row + 1] for k, v in inputs.items()}
        expected = whole(**alone).last_hidden_state[0, mask[row]]
        torch.testing.assert_close(got[row, mask[row]], expected, rtol=1e-5, atol=2e-6)


@every_family
def test_attention_is_as_the_family_was_trained(family: str, folders: dict[str, str]):
    """A later token reaches an earlier one only in a model with attention over the whole prefix."""
    tower, x = load(family, folders), torch.randn(1, LENGTH, HIDDEN)
    changed = x.clone()
    changed[0, -1] += 1
    for mask in (torch.ones(1, LENGTH), masks()[3:].float()):
        before, after = (
            tower(inputs_embeds=v, attention_mask=mask.long()).last_hidden_state for v in (x, changed)
        )
        assert (torch.equal(before[0, 3], after[0, 3])) == ("paligemma" not in family)


@every_family
def test_padding_changes_nothing(family: str, folders: dict[str, str]):
    mask = masks()
    given = Tokens(torch.randn(4, LENGTH, 7), mask)
    backbone = load(family, folders)
    generator = torch.Generator().manual_seed(0)
    scale = embedding_scale(backbone)
    adapter = TokenAdapter(given, width(backbone), scale, generator)
    site = SiteModel([adapter], attached(backbone), nn.Linear(HIDDEN, 2)).eval()
    z = site.represent(given)
    noise = torch.where(mask[..., None], given.values, 9 * torch.randn(4, LENGTH, 7))
    longer = Tokens(torch.cat([noise, torch.randn(4, 3, 7)], 1), torch.cat([mask, torch.zeros(4, 3).bool()], 1))
    for other in (Tokens(noise, mask), longer):
        torch.testing.assert_close(site.represent(other), z, rtol=1e-4, atol=1e-5)
    ids = torch.arange(40)
    assert adapter(given.values)[mask].std().item() == pytest.approx(
        backbone.get_input_embeddings()(ids).std().item(), rel=0.3
    )


@every_family
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_reach_every_adapter(family: str, precision: str, folders: dict[str, str]):
    model = attach(load(family, folders, precision=precision), dora=True, seed=SEED, **SETTINGS)
    shapes = lora.spec(model)
    assert len(shapes) == 3 * 7  # q, k, v, o, gate, up and down of each layer
    assert all(name.startswith("base_model.model.layers.") for name in shapes)
    x = torch.randn(4, LENGTH, HIDDEN).to(next(model.parameters()).dtype)
    y = model(inputs_embeds=x, attention_mask=masks().long()).last_hidden_state.float()
    (y[masks()] * torch.randn(int(masks().sum()), HIDDEN)).sum().backward()
    for name, layer in lora.adapted_layers(model).items():
        assert layer.B.grad.abs().sum() > 0, name
        assert layer.m.grad.abs().sum() > 0, name


STOCK = """
import sys, warnings, torch
from peft import PeftModel
from transformers import AutoModel
warnings.simplefilter("ignore")
for folder in sys.argv[1:]:
    given = torch.load(folder + "/data.pt")
    tower = AutoModel.from_pretrained(given["checkpoint"]).get_decoder().eval()
    model = PeftModel.from_pretrained(tower, folder)
    y = model(inputs_embeds=given["x"], attention_mask=given["mask"], use_cache=False).last_hidden_state
    torch.testing.assert_close(y, given["y"], rtol=1e-4, atol=1e-5)
assert "fedgram" not in sys.modules
"""


@pytest.mark.slow  # a process of its own; that of other bases is among the fast ones
def test_the_checkpoints_load_in_stock_peft_on_the_tower(folders: dict[str, str], tmp_path: Path):
    adapters = [tmp_path / "smolvlm", tmp_path / "qwen2_5_vl"]
    for folder in adapters:
        model = attached(load(folder.name, folders))
        peft_checkpoint.save_adapter(
            folder,
            B=lora.get_B(model),
            m=lora.get_m(model),
            shapes=lora.spec(model),
            seed=SEED,
            rank=SETTINGS["rank"],
            alpha=SETTINGS["alpha"],
            base_model=folders[folder.name],
        )
        x, mask = torch.randn(2, LENGTH, HIDDEN), torch.ones(2, LENGTH).long()
        with torch.no_grad():
            y = model(inputs_embeds=x, attention_mask=mask).last_hidden_state
        torch.save({"checkpoint": folders[folder.name], "x": x, "mask": mask, "y": y}, folder / "data.pt")
    command = [sys.executable, "-c", STOCK, *map(str, adapters)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@every_family
def test_a_round_of_training(family: str, folders: dict[str, str], toy: Toy):
    job = toy.with_job(backbone={"name": family, "layers": 2}, training={"local_steps": 2}).job
    config = dataclasses.replace(toy.sites["red"], backbones=folders, precision="bf16")
    site = open_site("red", config, job)
    introduction = rounds.introduce(site)
    state = agree([introduction, dataclasses.replace(introduction, site="green")], job)[0].state
    update = rounds.local_round(site, state)
    contracts.check_update(update, state, job, {}, {})
    assert all(delta.abs().sum() > 0 for delta in update.delta_B.values())


@every_family
def test_size_and_fingerprint_are_those_of_the_tower(family: str, folders: dict[str, str]):
    towers = [load(family, folders, 2, precision) for precision in ("fp32", "bf16")]
    assert len({fingerprint(tower) for tower in towers}) == 1
    size = sum(p.numel() for p in towers[1].parameters()) * 2
    assert weight_bytes(BackboneConfig(family, 2), folders, "bf16") == size


def test_weights_that_are_not_there_are_not_invented(folders: dict[str, str], tmp_path: Path):
    tensors = load_file(Path(folders["llava"]) / "model.safetensors")
    name = "language_model.model.layers.1.mlp.up_proj.weight"
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((Path(folders["llava"]) / "config.json").read_bytes())
    with pytest.raises(BackboneError, match=r"no weights for 1 parameters, 'layers\.1\.mlp\.up_proj\.weight'"):
        load("x", {"x": str(tmp_path)})
    assert load("x", {"x": str(tmp_path)}, layers=1)


def test_an_encoder_decoder_is_refused(tmp_path: Path):
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5Model(T5Config(vocab_size=20, **shape)).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="T5Model does not take inputs_embeds alone"):
        load("x", {"x": str(tmp_path)})


def test_more_layers_than_there_are(folders: dict[str, str]):
    with pytest.raises(BackboneError, match=r"(?s)4 layers asked for.*≤ 3"):
        load("llava", folders, 4)
