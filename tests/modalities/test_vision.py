"""Vision encoders: the tokens are the model's own, prepared by its own processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import PIXELS, VISION, save_vision
from fedgram import modalities
from fedgram.errors import ConfigError, DataError
from fedgram.modalities.base import MapTokenizer
from fedgram.modalities.vision import PatchEncoder
from PIL import Image
from safetensors.torch import load_file, save_file
from site_data import save_bert, write_image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    EfficientNetConfig,
    EfficientNetModel,
    MobileViTConfig,
    MobileViTModel,
    ResNetConfig,
    ResNetModel,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
)

D = 16

NECK = {"neck_hidden_sizes": [4, 4, 4, 4, 4, 4, 12], "hidden_sizes": [8, 8, 8], "num_attention_heads": 1}
CNNS = {  # each with the width of its map
    "resnet": (lambda: ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])), 8),
    "efficientnet": (
        lambda: EfficientNetModel(
            EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128)
        ),
        128,
    ),
    "mobilevit": (lambda: MobileViTModel(MobileViTConfig(image_size=32, patch_size=2, **NECK)), 12),
}


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    for seed in range(3):
        write_image(tmp_path / f"{seed}.png", seed)
    return [tmp_path / f"{seed}.png" for seed in range(3)]


def contents(pictures: list[Path]) -> list:
    return [modalities.load("image").read_anchor(path) for path in pictures]


@pytest.mark.parametrize("name", sorted(VISION))
def test_tokens_are_patches_after_cls_without_registers(name: str, pictures: list[Path], tmp_path: Path):
    folder = save_vision(name, tmp_path / name)
    tokens = PatchEncoder(folder)(contents(pictures))
    summary = VISION[name][2]
    if name == "convnext":
        assert tokens.values.shape == (3, 1, D)  # 32 pixels, reduced 32 times
    else:
        assert tokens.mask.sum(1).tolist() == [summary + (16 if name == "siglip2" else 4)] * 3
    settings = AutoConfig.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, config=getattr(settings, "vision_config", settings)).eval()
    if name == "dinov3":
        return  # its processor needs torchvision; test_dinov3_without_torchvision has the pixels
    rgb = [Image.open(path).convert("RGB") for path in pictures]
    batch = AutoImageProcessor.from_pretrained(folder)(images=rgb, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    if name == "convnext":
        hidden = hidden.flatten(2).transpose(1, 2)
    registers = 3 if "registers" in name else 0
    expected = torch.cat([hidden[:, :summary], hidden[:, summary + registers :]], 1)
    torch.testing.assert_close(tokens.values, expected)


@pytest.mark.parametrize("name", CNNS)
def test_the_map_of_a_cnn_as_it_is(name: str, pictures: list[Path], tmp_path: Path):
    """A pooler that their forward calls, and a width that settings do not say, or say of another layer."""
    make, width = CNNS[name]
    make().save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = PatchEncoder(str(tmp_path))
    assert encoder.width == width
    batch = encoder._processor(images=[Image.open(path).convert("RGB") for path in pictures], return_tensors="pt")
    hidden = AutoModel.from_pretrained(tmp_path).eval()(**batch).last_hidden_state
    torch.testing.assert_close(encoder(contents(pictures)).values, hidden.flatten(2).transpose(1, 2))


def test_a_masked_autoencoder_sees_all_of_an_image_and_always_the_same(pictures: list[Path], tmp_path: Path):
    """transformers' own class hides three patches of four, drawn anew in every pass."""
    model = ViTMAEModel(ViTMAEConfig(**PIXELS, mask_ratio=0.0)).eval()
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    settings = tmp_path / "config.json"
    settings.write_text(settings.read_text().replace('"mask_ratio": 0.0', '"mask_ratio": 0.75'))
    encoder = PatchEncoder(str(tmp_path))
    batch = encoder._processor(images=[Image.open(path).convert("RGB") for path in pictures], return_tensors="pt")
    in_order = torch.arange(4.0).expand(3, -1)
    expected = model(**batch, noise=in_order).last_hidden_state
    for _ in range(2):
        torch.testing.assert_close(encoder(contents(pictures)).values, expected)


def test_dinov3_without_torchvision(pictures: list[Path], tmp_path: Path):
    """Resize with antialiasing, 1/255, ImageNet's mean and deviation: what its own processor does."""
    folder = save_vision("dinov3", tmp_path / "dinov3")
    encoder = PatchEncoder(folder)
    pixels = torch.stack(
        [
            torch.tensor(list(Image.open(path).resize((16, 16), Image.Resampling.BILINEAR).tobytes()))
            for path in pictures
        ]
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (pixels.view(3, 1, 16, 16).float() / 255 - mean[None, :, None, None]) / std[None, :, None, None]
    hidden = AutoModel.from_pretrained(folder).eval()(pixel_values=images).last_hidden_state
    assert hidden.shape[1] == 1 + 3 + 4
    tokens = encoder(contents(pictures))
    torch.testing.assert_close(tokens.values, hidden[:, [0, 4, 5, 6, 7]])


@pytest.mark.parametrize("name", sorted(set(VISION) - {"siglip2"}))
def test_a_mask_is_placed_as_the_image_is(name: str, tmp_path: Path):
    """A wide image, so that encoders that cut its sides must cut those of the mask."""
    encoder = PatchEncoder(save_vision(name, tmp_path / name))
    assert isinstance(encoder, MapTokenizer)
    mask = np.zeros((64, 128), dtype=np.uint8)
    mask[20:, 40:90] = 3
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB").save(tmp_path / "a.png")
    placed = encoder.place(mask)
    assert set(np.unique(placed)) == {0, 3}
    seen = encoder._processor(images=Image.open(tmp_path / "a.png"), return_tensors="np")["pixel_values"][0, 0]
    middle = (seen.min() + seen.max()) / 2
    assert placed.shape == seen.shape
    assert ((placed > 0) == (seen > middle)).mean() > 0.93


def test_an_encoder_of_many_shapes_has_no_map(tmp_path: Path):
    with pytest.raises(ConfigError, match="no square map"):
        PatchEncoder(save_vision("siglip2", tmp_path / "siglip2")).place(np.zeros((8, 8), dtype=np.uint8))


def test_a_mask_of_the_processor_is_the_mask_of_the_tokens(tmp_path: Path):
    """SigLIP 2 keeps an image's shape: a narrow one has fewer patches."""
    folder = save_vision("siglip2", tmp_path / "siglip2")
    Image.new("RGB", (16, 40), (9, 90, 200)).save(tmp_path / "narrow.png")
    tokens = PatchEncoder(folder)(contents([tmp_path / "narrow.png"]))
    present = int(tokens.mask.sum())
    assert present < tokens.mask.numel() == 16
    assert tokens.mask[0, :present].all()


def test_identity_is_of_weights_and_processor(tmp_path: Path):
    first = PatchEncoder(save_vision("vit", tmp_path / "a")).identity
    assert PatchEncoder(save_vision("vit", tmp_path / "b")).identity == first
    config = tmp_path / "b" / "preprocessor_config.json"
    config.write_text(config.read_text().replace("0.5", "0.4"))
    assert PatchEncoder(str(tmp_path / "b")).identity != first
    weights = tmp_path / "a" / "model.safetensors"
    tensors = load_file(weights)
    tensors["layernorm.bias"][0] += 1
    save_file(tensors, weights, {"format": "pt"})
    assert PatchEncoder(str(tmp_path / "a")).identity != first


def test_half_a_checkpoint_is_refused(tmp_path: Path):
    folder = save_vision("siglip", tmp_path / "siglip")
    weights = tmp_path / "siglip" / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if "vision" not in k}, weights, {"format": "pt"})
    with pytest.raises(DataError, match=r"(?s)siglip.*no weights for \d+ parameters"):
        PatchEncoder(folder)


def test_a_text_model_is_no_image_encoder(tmp_path: Path):
    with pytest.raises(DataError, match=r"(?s)cannot be loaded.*remedy"):
        modalities.load("image").tokenizer(save_bert(tmp_path / "bert", ["dog"]), [])
