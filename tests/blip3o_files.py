"""A small BLIP3o checkpoint with random weights in the layout that BLIP3o publishes.

It is written name by name here, so that the loader's own idea of the names is not what writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers as t
from diffusers.models.embeddings import PixArtAlphaTextProjection
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

WIDTH, QUERIES, CHANNELS = 32, 3, 112
WORDS = (
    "a red blue green ring disc what colour is it how many Please generate image based on the following caption"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
ADDED = ["[IMG]", "[/IMG]", "<image>"]

TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "depth": 2,
    "num_heads": 2,
    "out_hidden_size": WIDTH,
    "fullatt_block_indexes": [1],
}
ROPE = {"type": "mrope", "mrope_section": [2, 1, 1]}
THETA = 10.0  # fast enough that rows and columns of a picture are told apart


def write(folder: Path, *, tied: bool = False, clip: bool = True, decoder: bool = True) -> Path:
    """``config.json``, two shards with their index, tokenizer, and the decoder's folder."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    _tokenizer(folder)
    tensors = {**qwen(tied), **picture_parts()}
    if clip:
        tensors |= {f"model.gen_vision_tower.vision_tower.model.{k}": v for k, v in eva_tensors().items()}
    save(folder, tensors)
    (folder / "config.json").write_text(json.dumps(settings(tied)))
    if decoder:
        write_decoder(folder / "diffusion-decoder")
    return folder


def save(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Two shards and their index."""
    names = sorted(tensors)
    half = len(names) // 2
    shards = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    for file, held in shards.items():
        save_file({name: tensors[name].contiguous().clone() for name in held}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def settings(tied: bool) -> dict[str, Any]:
    """As transformers 4.51 writes a Qwen2.5-VL configuration, and what BLIP3o's trainer adds to it."""
    qwen = {
        "architectures": ["blip3oQwenForCausalLM"],
        "model_type": "blip3o_qwen",
        **TEXT,
        "vocab_size": vocabulary_size(),
        "tie_word_embeddings": tied,
        "rope_theta": THETA,
        "rope_scaling": ROPE,
        "rms_norm_eps": 1e-06,
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "vision_config": {"model_type": "qwen2_5_vl", **VISION},
        "image_token_id": SPECIAL.index("<|image_pad|>"),
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.3",
    }
    return qwen | {
        "gen_vision_tower": "eva-clip-E-14-plus",
        "gen_hidden_size": CHANNELS,
        "gen_pooling": "early_pool2d_4",
        "n_query": QUERIES,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "use_mm_proj": True,
    }


def whole_qwen(tied: bool = False) -> t.Qwen2_5_VLForConditionalGeneration:
    """The Qwen2.5-VL inside, as transformers builds it."""
    rope = {"rope_type": "default", "rope_theta": THETA, "mrope_section": [2, 1, 1]}
    ends = {"bos_token_id": None, "eos_token_id": SPECIAL.index("<|im_end|>")}
    text = {**TEXT, **ends, "vocab_size": vocabulary_size(), "rope_parameters": rope, "rms_norm_eps": 1e-6}
    config = t.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=VISION,
        tie_word_embeddings=tied,
        image_token_id=SPECIAL.index("<|image_pad|>"),
        vision_start_token_id=SPECIAL.index("<|vision_start|>"),
    )
    torch.manual_seed(4)
    model = t.Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # small random weights say one word, whatever the question
            parameter.mul_(15.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def qwen(tied: bool = False) -> dict[str, Tensor]:
    """Its tensors under the names of transformers 4.51, which BLIP3o was trained with."""
    found = {}
    for name, tensor in whole_qwen(tied).state_dict().items():
        old = name.removeprefix("model.") if name.startswith("model.visual.") else name
        found[old.replace("model.language_model.", "model.")] = tensor
    return {name: tensor for name, tensor in found.items() if not (tied and name == "lm_head.weight")}


def picture_parts() -> dict[str, Tensor]:
    """Query tokens and diffusion transformer; the latter's feed-forward layers are rounded up to 256."""
    parts: nn.Module = diffusers.LuminaNextDiT2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=CHANNELS,
        hidden_size=32,
        num_layers=2,
        num_attention_heads=4,
        num_kv_heads=4,
        learn_sigma=False,
        cross_attention_dim=32,
    )
    names = {k: v for k, v in parts.state_dict().items() if k != "pad_token"}
    names |= {f"caption_projection.{k}": v for k, v in PixArtAlphaTextProjection(WIDTH, 32).state_dict().items()}
    for name in names:
        if name.endswith("gate"):  # zero in a new model: nothing of the prompt would reach it
            names[name] = torch.randn_like(names[name])
    return {"model.latent_queries": torch.randn(1, QUERIES, WIDTH)} | {
        f"model.dit.model.{name}": tensor for name, tensor in names.items()
    }


def eva_tensors(depth: int = 2, inner: int = 40, patch: int = 2, side: int = 32) -> dict[str, Tensor]:
    """EVA-CLIP's vision tower by the names of its published weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, CHANNELS),
        "pos_embed": (1, side**2 + 1, CHANNELS),
        "patch_embed.proj.weight": (CHANNELS, 3, patch, patch),
        "patch_embed.proj.bias": (CHANNELS,),
    }
    for i in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * CHANNELS, CHANNELS),
            ("attn.proj", CHANNELS, CHANNELS),
            ("mlp.fc1", inner, CHANNELS),
            ("mlp.fc2", CHANNELS, inner),
        ):
            shapes |= {f"blocks.{i}.{name}.weight": (rows, columns), f"blocks.{i}.{name}.bias": (rows,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.{part}": (CHANNELS,) for part in ("weight", "bias")}
    # What goes into a norm is made small, so that the norm's epsilon is seen.
    small = ("attn.proj.weight", "attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")
    return {name: (1e-3 if name.endswith(small) else 0.3) * torch.randn(shape) for name, shape in shapes.items()}


def write_decoder(folder: Path) -> None:
    """Emu2's decoder in miniature, in the variant that BLIP3o publishes."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=CHANNELS,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=CHANNELS + 6 * 8,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    unet.save_pretrained(folder / "unet", variant="bf16")
    vae.save_pretrained(folder / "vae", variant="bf16")
    diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")


def _vocabulary() -> dict[str, int]:
    letters = [*SPECIAL, "<unk>", *dict.fromkeys(WORDS.split()), ":", "?", "\n", *ADDED]
    return {token: i for i, token in enumerate(letters)}


def vocabulary_size() -> int:
    return len(_vocabulary())


def _tokenizer(folder: Path) -> None:
    plain = Tokenizer(models.WordLevel(_vocabulary(), unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    special = {"unk_token": "<unk>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    t.PreTrainedTokenizerFast(
        tokenizer_object=plain, additional_special_tokens=[*SPECIAL, *ADDED], **special
    ).save_pretrained(folder)
