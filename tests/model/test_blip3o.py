"""BLIP3o on a small checkpoint in its published layout: loading, both losses, both directions, every error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import blip3o_files
import numpy as np
import pytest
import torch
from blip3o_files import CHANNELS, QUERIES, WIDTH
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers.models.embeddings import PixArtAlphaTextProjection, get_2d_rotary_pos_embed_lumina
from diffusers.models.transformers.lumina_nextdit2d import LuminaNextDiT2DModel
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError
from fedgram.model import lora
from fedgram.model.attaching import attach
from fedgram.model.backbone import fingerprint, load_backbone
from fedgram.model.unified.base import UnifiedModel
from fedgram.model.unified.blip3o import Blip3o, decoder, load_blip3o
from fedgram.model.unified.blip3o import model as blip3o_model
from fedgram.model.unified.blip3o.clip import eva_clip
from fedgram.model.unified.blip3o.head import HEAD_TARGETS
from fedgram.model.unified.blip3o.layout import open_layout
from fedgram.model.unified.blip3o.sequences import after_picture, picture_prompt
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, gelu, layer_norm, mse_loss
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

TOWER_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QUESTIONS, ANSWERS = ("what colour is it ?", "how many"), ("red ring", "blue")
PROMPTS = ("a red ring", "a disc")

# diffusers' Euler scheduler hands numpy a tensor in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


IMAGES = [picture(0), picture(1, 40, 70)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def load(folder: Path, *more: Any, clip: Path | None = None, **options: Any) -> Blip3o:
    folders = {"blip3o": str(folder)} | ({} if clip is None else {"jiuhai/eva_clip_vision_tower": str(clip)})
    return load_blip3o(BackboneConfig("blip3o"), folders, *more, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blip3o_files.write(tmp_path_factory.mktemp("blip3o") / "BLIP3o-Model-tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Blip3o:
    return load(folder)


@pytest.fixture(scope="module")
def seen(model: Blip3o) -> Tensor:
    return model.see(IMAGES)


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder takes four steps, where what it paints is not compared with another's."""
    monkeypatch.setattr(decoder, "_STEPS", 4)


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(folder, tmp_path / "broken"))


# loading


def test_every_published_tensor_is_where_it_belongs(model, tensors):
    parts: dict[str, Any] = {
        "model.gen_vision_tower.vision_tower.model.": model._clip,
        "model.dit.model.caption_projection.": model.head.caption_projection,
        "model.dit.model.": model.head.transformer,
        "visual.": model._vision,
        "lm_head.": model._answers,
    }
    found = {"model.latent_queries": model.head.queries[None]}
    for prefix, part in parts.items():
        found |= {prefix + name: value for name, value in part.state_dict().items()}
    found |= {f"model.{name}": value for name, value in model.tower.state_dict().items()}
    assert found.keys() == tensors.keys()
    assert [name for name, value in tensors.items() if not torch.equal(found[name], value)] == []
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_tower_is_that_of_a_site_with_qwen_alone(folder, tmp_path):
    """Same layers, same shapes, same hash: they train together."""
    blip3o_files.whole_qwen().save_pretrained(tmp_path / "qwen")
    alone = load_backbone(BackboneConfig("qwen"), {"qwen": str(tmp_path / "qwen")})
    tower = load(folder).tower
    assert fingerprint(tower) == fingerprint(alone)
    specs = [
        lora.spec(attach(m, rank=4, alpha=4, targets="all-linear", dora=True, seed=0)) for m in (tower, alone)
    ]
    assert specs[0] == specs[1]
    assert "base_model.model.layers.1.self_attn.q_proj" in specs[0]


@pytest.mark.parametrize("kind", ["blip3o_qwen", "blip3o_qwen_inference"])
def test_a_site_of_one_modality_reads_the_same_folder(broken, model, kind):
    edit(broken, model_type=kind)
    tower = load_backbone(BackboneConfig("b"), {"b": str(broken)})
    assert fingerprint(tower) == fingerprint(model.tower)


def test_tied_embeddings_answer(tmp_path):
    tied = load(blip3o_files.write(tmp_path / "tied", tied=True, decoder=False))
    assert torch.equal(tied._answers.weight, tied.tower.get_input_embeddings().weight)


def test_a_tower_cut_short(folder, seen):
    cut = load_blip3o(BackboneConfig("b", layers=1), {"b": str(folder)})
    assert len(cut.tower.layers) == 1
    assert cut.generation_loss(PROMPTS, cut.targets(IMAGES), generator()).isfinite()
    assert cut.understanding_loss(seen, QUESTIONS, ANSWERS).isfinite()


@pytest.mark.usefixtures("quick")
def test_bf16(folder, seen):
    half = load(folder, precision="bf16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.see(IMAGES).dtype == half.targets(IMAGES).dtype == half.represent(seen).dtype == torch.float32
    loss = half.generation_loss(PROMPTS, half.targets(IMAGES), generator())
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert half.understanding_loss(seen, QUESTIONS, ANSWERS).isfinite()
    assert len(half.understand(seen, QUESTIONS)) == 2
    assert half.generate(PROMPTS[:1], generator())[0].size == (16, 16)
    assert half._decoder().unet.dtype == half._decoder().vae.dtype == torch.bfloat16


def test_clip_from_a_folder_of_its_own(tmp_path, model):
    """The published file has a classifier that BLIP3o does not use."""
    checkpoint = blip3o_files.write(tmp_path / "without", clip=False, decoder=False)
    torch.manual_seed(5)
    state = blip3o_files.eva_tensors()
    (tmp_path / "eva").mkdir()
    torch.save({"state_dict": {**state, "norm.weight": torch.ones(CHANNELS)}}, tmp_path / "eva/pytorch_model.bin")
    features = load(checkpoint, clip=tmp_path / "eva").targets(IMAGES)
    assert torch.allclose(features, eva_clip(state, 4, "here")(IMAGES))


@pytest.mark.parametrize("inner", [100, 64])
def test_feed_forward_layers_of_another_width(broken, tensors, inner):
    """Wider ones, as later versions of diffusers made them, are read; narrower than 8/3 · 32 is no such model."""
    wider = dict(tensors)
    for i in (0, 1):
        layer = f"model.dit.model.layers.{i}.feed_forward"
        wider |= {f"{layer}.linear_{n}.weight": torch.randn(inner, 32) for n in (1, 3)}
        wider[f"{layer}.linear_2.weight"] = torch.randn(32, inner)
    blip3o_files.save(broken, wider)
    if inner == 64:
        with pytest.raises(BackboneError, match=r"linear_1.weight' of shape \(64, 32\)"):
            load(broken)
        return
    times, states = torch.full((2,), 500.0), torch.randn(2, QUERIES, WIDTH)
    x = torch.randn(2, 64, CHANNELS)
    velocity = published_velocity(wider, inner)(x, times, states)
    assert torch.allclose(load(broken).head(x, times, states), velocity, atol=1e-4)


def test_an_unread_vae_does_no_harm(broken, tensors, model):
    blip3o_files.save(broken, {**tensors, "model.vae.decoder.conv_in.weight": torch.zeros(1)})
    assert fingerprint(load(broken).tower) == fingerprint(model.tower)


# understanding


def test_understanding_is_qwens(model, seen):
    """Loss and greedy answers of transformers' own Qwen2.5-VL, which reads pixels and places them by itself."""
    whole, tokenizer = blip3o_files.whole_qwen(), model._tokenizer
    config = whole.config
    read = Qwen2VLImageProcessorPil(patch_size=14, temporal_patch_size=2, merge_size=2)
    for i, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        image = read(images=[IMAGES[i].resize((448, 448), Image.Resampling.BICUBIC)], return_tensors="pt")
        text = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
            + "<|image_pad|>" * 256
            + f"<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
        )
        asked = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        told = tokenizer(f"{answer}<|im_end|>", return_tensors="pt", add_special_tokens=False)["input_ids"]
        ids = torch.cat([asked, told], dim=1)
        pictures = (ids == config.image_token_id).int()
        logits = whole(ids, mm_token_type_ids=pictures, **image).logits[0, -told.shape[1] - 1 : -1]
        ours = model.understanding_loss(seen[i : i + 1], [question], [answer])
        assert ours.item() == pytest.approx(cross_entropy(logits, told[0]).item(), rel=1e-4)
        output = whole.generate(
            asked,
            mm_token_type_ids=(asked == config.image_token_id).int(),
            attention_mask=torch.ones_like(asked),
            max_new_tokens=blip3o_model.ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=0,
            **image,
        )[0, asked.shape[1] :]
        said = tokenizer.decode(output, skip_special_tokens=True).strip()
        assert model.understand(seen[i : i + 1], [question]) == [said]


def test_questions_of_unequal_length_do_not_touch_each_other(model, seen):
    losses = [model.understanding_loss(seen[i : i + 1], QUESTIONS[i : i + 1], ANSWERS[i : i + 1]) for i in (0, 1)]
    mean = (3 * losses[0] + 2 * losses[1]) / 5  # of tokens: two words and one, each with its end
    assert torch.allclose(model.understanding_loss(seen, QUESTIONS, ANSWERS), mean, rtol=1e-4)
    long = ("what colour is it ? " * 40, "how many")  # so much padding shows
    singly = [model.understand(seen[i : i + 1], long[i : i + 1])[0] for i in (0, 1)]
    assert model.understand(seen, long) == singly
    assert len({len(answer.split()) for answer in singly}) == 2  # one goes on after the other's end


def test_an_answer_ends_where_the_tower_ends_it(model, seen, monkeypatch):
    """One answer ends before the other: nothing is added to it, and nothing is asked after the last end."""
    end = "<|im_end|>"
    script = iter([("blue", "red"), (end, "disc"), ("ring", "disc"), ("ring", end)])

    def say(states: Tensor) -> Tensor:
        logits = torch.zeros(len(states), blip3o_files.vocabulary_size())
        for row, word in zip(logits, next(script), strict=True):
            row[model._tokenizer.convert_tokens_to_ids(word)] = 1.0
        return logits

    monkeypatch.setattr(model, "_logits", say)
    assert model.understand(seen, QUESTIONS) == ["blue", "red disc disc"]
    assert list(script) == []


def test_representation_is_the_mean_over_the_pictures_tokens(model, seen):
    leaf = seen.clone().requires_grad_()
    z = model.represent(leaf)
    assert z.shape == (2, WIDTH)
    z.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    batch = model._asked(seen[0], "how many")
    states = model._states(blip3o_model.join([batch]))
    start = len(batch[0].embeds)  # what follows the picture does not reach it
    assert torch.allclose(z[0], states[0, start : start + 256].mean(0), atol=1e-5)


def test_the_whole_picture_is_seen_and_its_middle_is_the_target(model):
    wide = np.asarray(picture(3, 128, 64)).copy()
    edged = wide.copy()
    edged[:, :8] = 0
    pair = [Image.fromarray(wide), Image.fromarray(edged)]
    seen, targets = model.see(pair), model.targets(pair)
    assert not torch.allclose(seen[0], seen[1])
    assert torch.allclose(targets[0], targets[1])


def test_the_features_of_eva_clip(model, tensors):
    """Attention head by head and place by place; norms after what they belong to; pooled 4 × 4."""
    prefix = "model.gen_vision_tower.vision_tower.model."
    w = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    image = picture(4, 64, 64)
    pixels = torch.tensor(np.asarray(image) / 255.0, dtype=torch.float32)
    pixels = (pixels - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    patches = [
        torch.einsum("hwc,dchw->d", pixels[2 * i : 2 * i + 2, 2 * j : 2 * j + 2], w["patch_embed.proj.weight"])
        for i in range(32)
        for j in range(32)
    ]
    x = torch.cat([w["cls_token"][0], torch.stack(patches) + w["patch_embed.proj.bias"]]) + w["pos_embed"][0]
    for i in range(2):
        b = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if k.startswith(f"blocks.{i}.")}
        q, k, v = (x @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]).split(CHANNELS, dim=1)
        attended = (q @ k.T / 112**0.5).softmax(-1) @ v  # one head of 112
        out = attended @ b["attn.proj.weight"].T + b["attn.proj.bias"]
        x = x + layer_norm(out, (CHANNELS,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        out = gelu(x @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"]) @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"]
        x = x + layer_norm(out, (CHANNELS,), b["norm2.weight"], b["norm2.bias"], 1e-6)
    pooled = avg_pool2d(x[1:].T.view(1, CHANNELS, 32, 32), 4).flatten(2)[0].T
    assert model.targets([image]).shape == (1, 64, CHANNELS)
    assert torch.allclose(model.targets([image])[0], pooled, atol=1e-3)


# generation


def published_velocity(tensors: dict[str, Tensor], inner: int = 256) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """BLIP3o's own composition: the projection, then Lumina's transformer with angles for 384 × 384 places."""
    own = {k.removeprefix("model.dit.model."): v for k, v in tensors.items() if k.startswith("model.dit.model.")}
    projection = PixArtAlphaTextProjection(WIDTH, 32)
    projection.load_state_dict(
        {k.removeprefix("caption_projection."): v for k, v in own.items() if k.startswith("caption_projection.")}
    )
    dit = LuminaNextDiT2DModel(8, 1, CHANNELS, 32, 2, 4, 4, inner, learn_sigma=False, cross_attention_dim=32)
    rest = {k: v for k, v in own.items() if not k.startswith("caption_projection.")}
    dit.load_state_dict({**rest, "pad_token": torch.zeros(32)})
    angles = get_2d_rotary_pos_embed_lumina(8, 384, 384)

    @torch.no_grad()
    def velocity(x: Tensor, times: Tensor, states: Tensor) -> Tensor:
        grid = x.transpose(1, 2).reshape(len(x), CHANNELS, 8, 8)
        mask = torch.ones(states.shape[:2])
        out: Any = dit(grid, times, projection(states), mask, angles, cross_attention_kwargs={})
        return out.sample.reshape(len(x), CHANNELS, 64).transpose(1, 2)

    return velocity


@torch.no_grad()
def slow_states(model: Blip3o, prompts: tuple[str, ...]) -> Tensor:
    """The tower on one prompt at a time, with transformers' own positions."""
    found = []
    for prompt in prompts:
        text = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nPlease generate image "
            f"based on the following caption: {prompt}<|im_end|>\n<|im_start|>assistant\n[IMG]"
        )
        ids = model._tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        embeds = torch.cat([model.tower.get_input_embeddings()(ids), model.head.queries[None]], dim=1)
        found.append(model.tower(inputs_embeds=embeds).last_hidden_state[:, -QUERIES:])
    return torch.cat(found)


def test_the_generation_loss_equals_the_slow_one(model, tensors, monkeypatch):
    monkeypatch.setattr(blip3o_model, "DROPPED", 0.5)
    prompts, targets = (*PROMPTS, *PROMPTS), torch.randn(4, 64, CHANNELS)
    draws = generator(1)
    kept = torch.rand(4, generator=draws) >= 0.5
    assert kept.tolist().count(True) == 2  # both cases are there
    times = 1.0 + torch.randint(1000, (4,), generator=draws)
    noise = torch.randn(4, 64, CHANNELS, generator=draws)
    velocity, states = published_velocity(tensors), slow_states(model, prompts)
    expected = []
    for n in range(4):
        sigma = times[n] / 1000
        between = (1 - sigma) * targets[n] + sigma * noise[n]
        told = states[n] if kept[n] else torch.zeros_like(states[n])
        predicted = velocity(between[None], times[n : n + 1], told[None])[0]
        expected.append(mse_loss(predicted, noise[n] - targets[n]))
    loss = model.generation_loss(prompts, targets, generator(1))
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


def test_one_prompt_in_ten_is_dropped(model, monkeypatch):
    """What the head is conditioned on is zero in about a tenth of the rows."""
    zeros: list[float] = []
    states = torch.ones(2000, QUERIES, WIDTH)

    def velocity(z: Tensor, x: Tensor, times: Tensor) -> Tensor:
        zeros.append((z == 0).all(-1).all(-1).float().mean().item())
        return x

    monkeypatch.setattr(model, "_prompted", lambda prompts: states)
    monkeypatch.setattr(model, "_velocity", velocity)
    model.generation_loss([""] * 2000, torch.zeros(2000, 1, 1), generator())
    assert zeros == [pytest.approx(0.1, abs=0.03)]


def test_sampled_features_are_those_of_the_published_loop(model, tensors):
    """Guidance 3 against zero states, 30 steps; of no words at all there is only [IMG]."""
    velocity, states = published_velocity(tensors), slow_states(model, PROMPTS)
    empty = model.tower.get_input_embeddings()(torch.tensor([[model._tokenizer.convert_tokens_to_ids("[IMG]")]]))
    with torch.no_grad():
        alone = torch.cat([empty, model.head.queries[None]], dim=1)
        states = torch.cat([states, model.tower(inputs_embeds=alone).last_hidden_state[:, -QUERIES:]])
    x = torch.randn(3, 64, CHANNELS, generator=generator(7))
    for i in range(30):
        time = torch.full((3,), float(1000 * (30 - i) // 30))
        given, without = velocity(x, time, states), velocity(x, time, torch.zeros_like(states))
        x = x - (without + 3.0 * (given - without)) / 30
    features, nothing = model.imagine(PROMPTS, generator(7))
    assert torch.allclose(torch.cat([features, nothing]), x, atol=1e-3)


@pytest.mark.usefixtures("quick")
def test_pictures(model):
    first, again, other = (model.generate(PROMPTS, generator(seed)) for seed in (1, 1, 2))
    assert [image.size for image in first] == [(16, 16), (16, 16)]
    arrays = [[np.asarray(image) for image in images] for images in (first, again, other)]
    assert all(np.array_equal(a, b) for a, b in zip(arrays[0], arrays[1], strict=True))
    assert not np.array_equal(arrays[0][0], arrays[2][0])


@pytest.mark.usefixtures("quick")
def test_the_decoder_reads_the_features(model):
    """Other features under the same noise paint another picture; those of an empty prompt steer it too."""
    decode = model._decoder()
    features = torch.randn(1, 64, CHANNELS)
    images = [
        np.asarray(decode(scale * features, shift * features, generator())[0])
        for scale, shift in ((1.0, 0.0), (2.0, 0.0), (1.0, 0.5))
    ]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_the_decoder_is_sdxl_with_features_for_words(model):
    """diffusers' own pipeline, given the features as what it would have made of the words."""
    decode = model._decoder()
    features, empty = torch.randn(1, 64, CHANNELS), torch.randn(1, 64, CHANNELS)
    pipeline = StableDiffusionXLPipeline(
        vae=decode.vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=decode.unet,
        scheduler=EulerDiscreteScheduler.from_config(decode._scheduler.config),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    output: Any = pipeline(
        prompt_embeds=features,
        pooled_prompt_embeds=features.mean(1),
        negative_prompt_embeds=empty,
        negative_pooled_prompt_embeds=empty.mean(1),
        guidance_scale=3.0,
        num_inference_steps=50,
        latents=torch.randn(1, 4, 8, 8, generator=generator(9)),
    )
    expected = np.asarray(output.images[0]).astype(int)
    painted = np.asarray(decode(features, empty, generator(9))[0]).astype(int)
    assert expected.std() > 5  # not all one colour
    assert np.abs(painted - expected).max() <= 1


def test_a_decoder_of_ones_own(folder):
    given: list[Tensor] = []

    def decode(features: Tensor, empty: Tensor, generator: torch.Generator) -> list[Image.Image]:
        given.extend((features, empty))
        return [Image.new("RGB", (4, 4)) for _ in features]

    images = load(folder, decoder=decode).generate(PROMPTS, generator())
    assert [image.size for image in images] == [(4, 4), (4, 4)]
    assert [tuple(tensor.shape) for tensor in given] == [(2, 64, CHANNELS), (1, 64, CHANNELS)]


# training


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_learn_both_tasks(folder, seen, dora):
    """One step lowers both losses of its own batch, and twenty lower them by much."""
    model = load(folder)
    trained: UnifiedModel = model  # what a site sees of it
    targets = model.targets(IMAGES)

    def losses() -> tuple[Tensor, Tensor]:
        understanding = trained.understanding_loss(seen, QUESTIONS, ANSWERS)
        return understanding, trained.generation_loss(PROMPTS, targets, generator(5))

    plain = [loss.item() for loss in losses()]
    for part, targeted in (("tower", TOWER_TARGETS), ("head", HEAD_TARGETS)):
        adapted = attach(getattr(model, part), rank=8, alpha=8, targets=targeted, dora=dora, seed=0)
        setattr(model, part, adapted)
    assert [loss.item() for loss in losses()] == pytest.approx(plain, rel=1e-4)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    history = []
    for _ in range(20):
        both = losses()
        history.append([loss.item() for loss in both])
        optimizer.zero_grad()
        sum(both, torch.zeros(())).backward()
        optimizer.step()
    assert all(after < before for before, after in zip(history[0], history[1], strict=True))
    assert history[-1][0] < 0.5 * history[0][0]
    assert history[-1][1] < 0.9 * history[0][1]
    assert model.generate(PROMPTS[:1], generator())
    assert len(model.understand(seen, QUESTIONS)) == 2


def test_rehearsal_is_the_loss_of_making_and_the_way_from_the_base(folder):
    model, data = load(folder), torch.randn(2, 64, CHANNELS)
    with torch.no_grad():
        before = model._predict(PROMPTS, torch.ones(2, 1, 1))
    model.tower = attach(model.tower, rank=2, alpha=2, targets=TOWER_TARGETS, dora=False, seed=0)

    def losses() -> tuple[Tensor, Tensor]:
        return model.rehearsal_losses(PROMPTS, data, generator(5), partial(lora.untrained, model.tower))

    assert losses()[1].item() == pytest.approx(0.0, abs=1e-9)
    for layer in lora.adapted_layers(model.tower).values():
        torch.nn.init.normal_(layer.B, generator=generator(1))
    making, drift = losses()
    assert making == model.generation_loss(PROMPTS, data, generator(5))
    kept, times, noise = model._draws(data, generator(5))
    assert kept.all()
    sigma = (times / 1000).view(-1, 1, 1)
    between = (1 - sigma) * data + sigma * noise
    after = model._predict(PROMPTS, torch.ones(2, 1, 1))
    expected = mse_loss(after(between, times), before(between, times))
    assert drift.item() == pytest.approx(expected.item(), rel=1e-4)
    assert expected > 0


def test_both_losses_train_the_tower_and_one_the_head(folder, seen):
    model = load(folder)
    model.tower = attach(model.tower, rank=2, alpha=2, targets=TOWER_TARGETS, dora=False, seed=0)
    model.head.requires_grad_(True)

    def reached(loss: Tensor) -> tuple[bool, bool]:
        model.zero_grad()
        loss.backward()
        parts = (layer.B.grad for layer in lora.adapted_layers(model.tower).values())
        tower = any(grad is not None and bool(grad.any()) for grad in parts)
        return tower, model.head.queries.grad is not None and bool(model.head.queries.grad.any())

    assert reached(model.understanding_loss(seen, QUESTIONS, ANSWERS)) == (True, False)
    assert reached(model.generation_loss(PROMPTS, model.targets(IMAGES), generator())) == (True, True)


# errors


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


def without(tensors: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if not k.startswith(names)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gen_vision_tower": "siglip2"}, "gen_vision_tower 'siglip2'"),
        ({"gen_pooling": "all"}, "gen_pooling 'all'"),
        ({"n_query": None}, "n_query None"),
        ({"n_query": 5}, r"expected: \(1, 5, d\)"),
    ],
)
def test_settings_that_are_not_blip3os(broken, changes, message):
    edit(broken, **changes)
    with pytest.raises(BackboneError, match=message):
        load(broken)


DENOISER, EVA = "model.dit.model.", "model.gen_vision_tower.vision_tower.model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {**t, "model.controlnet.weight": torch.ones(1)},
            "1 tensors of no known part, 'model.controlnet",
        ),
        (lambda t: {**t, f"{DENOISER}layers.0.extra": torch.ones(1)}, "unknown weights for 1 names"),
        (lambda t: without(t, f"{DENOISER}layers.1.gate"), "no weights for 1 names, 'transformer.layers.1.gate'"),
        (lambda t: without(t, DENOISER), "no weights 'patch_embedder.proj.weight'"),
        (lambda t: {**t, f"{DENOISER}layers.1.gate": torch.ones(3)}, r"gate' of shape \(3,\)"),
        (lambda t: without(t, "model.latent_queries"), "query tokens of shape None"),
        (lambda t: {**t, "model.latent_queries": torch.ones(1, QUERIES, 7)}, r"shape \(1, 3, 7\)"),
        (lambda t: without(t, "lm_head."), "no weights for 1 names, 'weight'"),
        (lambda t: without(t, "model.norm."), "no weights for 1 parameters, 'norm.weight'"),
        (lambda t: without(t, "visual.merger.ln_q"), "no weights for 1 parameters, 'merger.ln_q.weight'"),
        (lambda t: without(t, f"{EVA}pos_embed"), "no weights 'pos_embed'"),
        (lambda t: {**t, f"{EVA}pos_embed": torch.ones(1, 1 + 31**2, CHANNELS)}, "961 places, pooled by 4"),
    ],
)
def test_tensors_that_do_not_fit(broken, tensors, change, message):
    blip3o_files.save(broken, change(tensors))
    with pytest.raises(BackboneError, match=message):
        load(broken)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"config.json: cannot be read \(FileNotFoundError"),
        (lambda f: (f / "config.json").write_text("{"), r"config.json: cannot be read \(JSONDecodeError"),
        (lambda f: (f / "model.safetensors.index.json").unlink(), "no weights in safetensors"),
        (
            lambda f: [p.write_bytes(b"junk") for p in f.glob("*-00001-*")],
            "cannot be loaded .SafetensorError",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "BLIP3o in .*cannot be loaded"),
    ],
)
def test_damaged_files(broken, damage, message):
    damage(broken)
    with pytest.raises(BackboneError, match=f"(?s){message}"):
        load(broken)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"junk")])
def test_a_part_in_a_damaged_file(broken, damage):
    found = open_layout(broken)
    file = found.files["model.latent_queries"]
    damage(broken / file)
    with pytest.raises(BackboneError, match=rf"{file}: cannot be read"):
        found.part("model.latent_queries")


def test_a_job_names_no_folder():
    with pytest.raises(BackboneError, match=r"backbone 'BLIP3o/BLIP3o-Model-4B': (?s:.*)\[backbones\]"):
        load_blip3o(BackboneConfig("BLIP3o/BLIP3o-Model-4B"), {})


def test_a_tokenizer_without_blip3os_tokens(broken):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = broken / name
        path.write_text(path.read_text().replace("[IMG]", "[PIC]"))
    with pytest.raises(BackboneError, match=r"no token '\[IMG\]'"):
        load(broken)


def test_no_clip_and_no_decoder(tmp_path, seen):
    """Both are missed only by what needs them."""
    checkpoint = blip3o_files.write(tmp_path / "bare", clip=False, decoder=False)
    model = load(checkpoint)
    with pytest.raises(BackboneError, match="no weights of EVA-CLIP"):
        model.targets(IMAGES)
    with pytest.raises(BackboneError, match="no decoder from features to pixels"):
        model.generate(PROMPTS, generator())
    assert model.understanding_loss(seen, QUESTIONS, ANSWERS).isfinite()
    with pytest.raises(BackboneError, match=r"pytorch_model.bin: cannot be read \(FileNotFoundError"):
        load(checkpoint, clip=tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"junk")
    with pytest.raises(BackboneError, match=r"pytorch_model.bin: cannot be read \(error"):
        load(checkpoint, clip=tmp_path)


def test_a_damaged_decoder(broken):
    shutil.rmtree(broken / "diffusion-decoder" / "vae")
    with pytest.raises(BackboneError, match=r"diffusion-decoder: cannot be loaded \(OSError"):
        load(broken).generate(PROMPTS, generator())


def test_tokens_and_features_of_another_model(model, seen):
    with pytest.raises(BackboneError, match=r"tokens of shape \(255, 32\)"):
        model.represent(seen[:, :255])
    with pytest.raises(BackboneError, match=r"tokens of shape \(256, 31\)"):
        model.understand(seen[..., :31], QUESTIONS)
    with pytest.raises(BackboneError, match=r"features of shape \(2, 63, 112\)"):
        model.generation_loss(PROMPTS, torch.zeros(2, 63, CHANNELS), generator())


@pytest.mark.parametrize("part", ["models.embeddings", "models.unets.unet_2d_condition"])
def test_without_diffusers(folder, monkeypatch, part):
    monkeypatch.setitem(sys.modules, f"diffusers.{part}", None)
    with pytest.raises(
        BackboneError, match=r"diffusers is not installed(?s:.*)pip install 'fedgram\[diffusion\]'"
    ):
        load(folder).generate(PROMPTS, generator())


def test_the_words_around_a_prompt():
    """What the published weights were asked with."""
    assert picture_prompt("X").endswith("following caption: X<|im_end|>\n<|im_start|>assistant\n")
    assert after_picture("Q?") == "<|vision_end|>Q?<|im_end|>\n<|im_start|>assistant\n"
