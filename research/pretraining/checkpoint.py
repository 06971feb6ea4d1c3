"""An untrained Janus of any size in the published layout: configuration, tokenizer, chat template."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

BEGIN, END, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
PICTURES = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
_ROLES = ("<|User|>", "<|Assistant|>")

# That of the published checkpoints for one question and its answer: one user message, then the assistant.
_CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|User|>: {% else %}<|Assistant|>: {% endif %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image_placeholder>\n{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}"
    "{% if message['role'] == 'user' %}\n\n{% else %}<｜end▁of▁sentence｜>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """The size of a small Janus.

    Attributes:
        pixels: side of a picture.
        patch: side of a patch, and of what one code stands for: a power of two.
        vision: width and layers of the vision tower.
        codes: of the VQ-VAE.
        channels: of the VQ-VAE at full resolution, a multiple of 32.
        width, layers: of the language tower; its heads are 32 wide.
    """

    pixels: int = 32
    patch: int = 4
    vision: tuple[int, int] = (96, 3)
    codes: int = 256
    channels: int = 32
    width: int = 128
    layers: int = 4


def make_processor(words: Sequence[str], size: Size) -> JanusProcessor:
    """The processor: tokenizer, image processor and chat template.

    Args:
        words: that are one token each; all others are spelt.
        size: the side of the pictures.
    """
    image = JanusImageProcessorPil(
        size={"height": size.pixels, "width": size.pixels},
        min_size=size.patch,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    tokens = (size.pixels // size.patch) ** 2
    return JanusProcessor(image, _tokenizer(words), chat_template=_CHAT, num_image_tokens=tokens)


def make_model(tokenizer: Any, size: Size) -> JanusForConditionalGeneration:
    """A model with random weights from torch's global generator."""
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.layers,
        num_attention_heads=max(1, size.width // 32),
        max_position_embeddings=512,
        **ids,
    )
    vision = JanusVisionConfig(
        hidden_size=size.vision[0],
        num_hidden_layers=size.vision[1],
        num_attention_heads=max(1, size.vision[0] // 24),
        image_size=size.pixels,
        patch_size=size.patch,
        projection_dim=size.width,
        num_image_tokens=(size.pixels // size.patch) ** 2,
    )
    levels = size.patch.bit_length()
    vq = JanusVQVAEConfig(
        num_embeddings=size.codes,
        embed_dim=16,
        latent_channels=size.channels,
        base_channels=size.channels,
        channel_multiplier=[1] * (levels - 1) + [2],
        num_res_blocks=0,
        projection_dim=size.width,
        image_token_embed_dim=size.width,
    )
    image_id = tokenizer.convert_tokens_to_ids(PICTURES["image_token"])
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=vq, image_token_id=image_id, **ids)
    model = JanusForConditionalGeneration(config)
    begin = tokenizer.convert_tokens_to_ids(PICTURES["boi_token"])
    model.generation_config = GenerationConfig(
        **ids, do_sample=True, top_k=0, guidance_scale=5.0, generation_kwargs={"boi_token_id": begin}
    )
    return model


def _tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of known words, and of letters to spell others with; punctuation stands alone."""
    special = [PAD, BEGIN, END, *PICTURES.values(), *_ROLES]
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*special, "[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *words]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        unk_token="[UNK]",
        extra_special_tokens=PICTURES,
    )
