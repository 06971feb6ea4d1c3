"""Small detectors and a small CLIP with random weights, written in the layout of the published ones."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as t

_LETTERS = [chr(code) for code in range(33, 127)]
# CLIP's text towers read the sentence off its highest token, which is its end.
_TOKENS = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
_SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
_TEXT = {
    **_SMALL,
    "max_position_embeddings": 64,
    "vocab_size": len(_TOKENS),
    "bos_token_id": len(_TOKENS) - 2,
    "eos_token_id": len(_TOKENS) - 1,
    "pad_token_id": len(_TOKENS) - 1,
}
_VISION = {**_SMALL, "image_size": 16, "patch_size": 4}
_SIZE = {"height": 16, "width": 16}


def _tokenizer() -> t.CLIPTokenizer:
    """Letters alone: no pair is merged."""
    return t.CLIPTokenizer(vocab={token: number for number, token in enumerate(_TOKENS)}, merges=[])


def write_owl(folder: Path, version: int) -> Path:
    """OWL-ViT (1) or OWLv2 (2)."""
    torch.manual_seed(0)
    parts = {"text_config": _TEXT, "vision_config": _VISION, "projection_dim": 16}
    if version == 1:
        model, images = t.OwlViTForObjectDetection(t.OwlViTConfig(**parts)), t.OwlViTImageProcessor(size=_SIZE)
        processor = t.OwlViTProcessor(images, _tokenizer())
    else:
        model, images = t.Owlv2ForObjectDetection(t.Owlv2Config(**parts)), t.Owlv2ImageProcessor(size=_SIZE)
        processor = t.Owlv2Processor(images, _tokenizer())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_grounding_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "bench", "red", "cup"]
    tokenizer = t.BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    backbone = t.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3"],
    )  # fmt: skip
    small = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 9, "max_text_len": 16}
    config = t.GroundingDinoConfig(
        backbone_config=backbone, text_config={"model_type": "bert", **_SMALL, "vocab_size": len(words)},
        num_feature_levels=4, **small, **heads,
    )  # fmt: skip
    t.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = t.GroundingDinoImageProcessor(size={"shortest_edge": 32, "longest_edge": 48})
    t.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = t.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    t.CLIPModel(config).save_pretrained(folder)
    images = t.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=_SIZE)
    t.CLIPProcessor(images, _tokenizer()).save_pretrained(folder)
    return folder
