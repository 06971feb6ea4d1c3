"""Reading and setting B and m, and the checkpoint, also in a process without fedgram."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from fedgram.errors import CheckpointError
from fedgram.model import lora, peft_checkpoint
from lora_models import SEED, attached, bert, llama
from peft import LoraConfig
from safetensors.torch import load_file


def test_spec_and_copies():
    model = attached(llama(dtype=torch.bfloat16))
    shapes = lora.spec(model)
    assert shapes["base_model.model.layers.0.mlp.up_proj"] == (48, 4, 32)
    before, m = lora.get_B(model), lora.get_m(model)
    assert {k: tuple(v.shape) for k, v in before.items()} == {k: (o, r) for k, (o, r, _) in shapes.items()}
    assert {k: tuple(v.shape) for k, v in m.items()} == {k: (o,) for k, (o, _, _) in shapes.items()}
    lora.set_B(model, {k: v + 1 for k, v in before.items()})
    lora.set_m(model, {k: v + 1 for k, v in m.items()})
    for name in shapes:
        assert torch.equal(lora.get_B(model)[name], before[name] + 1)
        assert torch.equal(lora.get_m(model)[name], m[name] + 1)
    assert all(not v.requires_grad and v.dtype == torch.float32 for v in (before | m).values())


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
@pytest.mark.parametrize("part", ["B", "m"])
def test_wrong_state_is_refused_and_changes_nothing(spoil, part):
    model = attached(llama())
    get, load = getattr(lora, f"get_{part}"), getattr(lora, f"set_{part}")
    before = get(model)
    state = {k: v + 1 for k, v in before.items()}
    name = list(state)[-1]
    if spoil == "shape":
        state[name] = state[name][:-1]
    else:
        value = state.pop(name) if spoil == "missing" else state[name]
        state |= {"base_model.model.else": value} if spoil == "unknown" else {}
    with pytest.raises(CheckpointError, match=r"base_model\.model\."):
        load(model, state)
    assert all(torch.equal(v, before[k]) for k, v in get(model).items())


def test_geolora_has_no_magnitude():
    model = attached(llama(), with_m=False)
    assert lora.get_m(model) == {}
    lora.set_m(model, {})
    with pytest.raises(CheckpointError, match="unknown m"):
        lora.set_m(model, {"base_model.model.layers.0.mlp.up_proj": torch.ones(48)})


def save(model, folder, **changes):
    given = {
        "B": lora.get_B(model),
        "m": lora.get_m(model),
        "shapes": lora.spec(model),
        "seed": SEED,
        "rank": 4,
        "alpha": 6.0,
        "base_model": "tiny",
    }
    peft_checkpoint.save_adapter(folder, **(given | changes))


@pytest.mark.parametrize("with_m", [False, True])
def test_checkpoint_without_a_model_equals_that_of_the_live_model(tmp_path, with_m):
    model = attached(bert(), with_m)
    save(model, tmp_path / "geo")
    model.save_pretrained(tmp_path / "stock", save_embedding_layers=False)
    ours, theirs = (load_file(tmp_path / k / "adapter_model.safetensors") for k in ("geo", "stock"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    ours, theirs = (LoraConfig.from_pretrained(tmp_path / k).to_dict() for k in ("geo", "stock"))
    told_apart = {"target_modules", "base_model_name_or_path", "auto_mapping", "peft_version"}
    assert {k for k in theirs if ours[k] != theirs[k]} <= told_apart
    assert sorted(p.name for p in (tmp_path / "geo").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


READER = """
import sys, warnings
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
import torch
from peft import PeftModel
from transformers import AutoModel
base, *folders = sys.argv[1:]
for folder in folders:
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base, add_pooling_layer=False), folder).eval()
    x, expected = torch.load(folder + "/batch.pt")
    torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
assert "fedgram" not in sys.modules
"""


def test_checkpoints_load_in_stock_peft(tmp_path):
    bert().save_pretrained(tmp_path / "base")
    folders = [tmp_path / "geolora", tmp_path / "geodora"]
    for folder in folders:
        model, x = attached(bert(), with_m=folder.name == "geodora").eval(), torch.randn(2, 5, 32)
        save(model, folder, base_model=str(tmp_path / "base"))
        torch.save((x, model(inputs_embeds=x).last_hidden_state.detach()), folder / "batch.pt")
    command = [sys.executable, "-c", READER, tmp_path / "base", *folders]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_saving_again_replaces_the_checkpoint(tmp_path):
    model = attached(llama())
    (tmp_path / "note.txt").write_text("kept")
    save(model, tmp_path)
    save(model, tmp_path, m={})
    assert not [k for k in load_file(tmp_path / "adapter_model.safetensors") if "magnitude" in k]
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_dora"] is False
    assert (tmp_path / "note.txt").read_text() == "kept"


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    model = attached(llama())
    name = "base_model.model.layers.0.mlp.up_proj"
    shapes, b, m = lora.spec(model), lora.get_B(model), lora.get_m(model)
    for changes in (
        {"rank": 8},
        {"shapes": shapes | {"layers.0": (48, 4, 32)}},
        {"B": {k: v for k, v in b.items() if k != name}},
        {"B": b | {name: b[name].T}},
        {"m": m | {name: m[name][1:]}},
    ):
        with pytest.raises(CheckpointError):
            save(model, tmp_path / "adapter", **changes)
    assert not (tmp_path / "adapter").exists()
