"""Small random encoders of the architectures that sites use, each with its own tokenizer or image processor."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import torch
import transformers as t
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PIXELS = {"image_size": 16, "patch_size": 8, **SIZES}  # four patches
TEXTS = {**SIZES, "vocab_size": 30}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KMERS = ["".join(letters) for letters in product("ACGT", repeat=6)]

VISION = {
    "vit": (lambda: t.ViTModel(t.ViTConfig(**PIXELS)), t.ViTImageProcessor, 1),
    "dinov2": (lambda: t.Dinov2Model(t.Dinov2Config(**PIXELS)), t.BitImageProcessor, 1),
    "dinov2-registers": (
        lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(num_register_tokens=3, **PIXELS)),
        t.BitImageProcessor,
        1,
    ),
    "dinov3": (lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(num_register_tokens=3, **PIXELS)), None, 1),
    "clip": (
        lambda: t.CLIPModel(t.CLIPConfig(text_config=TEXTS, vision_config=PIXELS)),
        t.CLIPImageProcessor,
        1,
    ),
    "siglip": (
        lambda: t.SiglipModel(t.SiglipConfig(text_config=TEXTS, vision_config=PIXELS)),
        t.SiglipImageProcessor,
        0,
    ),
    "siglip2": (
        lambda: t.Siglip2Model(t.Siglip2Config(text_config=TEXTS, vision_config={**PIXELS, "num_patches": 16})),
        t.Siglip2ImageProcessor,
        0,
    ),
    "convnext": (
        lambda: t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1])),
        t.ConvNextImageProcessor,
        0,
    ),
}
"""By name: the model, its image processor, and how many [CLS] tokens stand before the patches."""


def save_vision(name: str, folder: Path) -> str:
    """A vision encoder for images of 16 pixels."""
    torch.manual_seed(0)
    make, processor, _ = VISION[name]
    make().save_pretrained(folder)
    size = {"height": 16, "width": 16}
    if name == "dinov3":  # its own processor cannot be made without torchvision; this is its file
        settings = {
            "image_processor_type": "DINOv3ViTImageProcessor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "rescale_factor": 1 / 255,
            "resample": 2,
            "size": size,
            **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    elif name == "siglip2":
        processor(patch_size=8, max_num_patches=16).save_pretrained(folder)
    elif name == "convnext":
        processor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    elif name in ("dinov2", "dinov2-registers", "clip"):
        processor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    else:
        processor(size=size).save_pretrained(folder)
    return str(folder)


WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (10, 8),  # 100 hidden states a second at 8 kHz
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
AUDIO = {
    "ast": lambda: t.ASTModel(
        t.ASTConfig(**SIZES, max_length=32, num_mel_bins=16, patch_size=8, frequency_stride=4, time_stride=4)
    ),
    "wav2vec2": lambda: t.Wav2Vec2Model(t.Wav2Vec2Config(**WAVES)),
    "hubert": lambda: t.HubertModel(t.HubertConfig(**WAVES)),
    "whisper": lambda: t.WhisperForConditionalGeneration(
        t.WhisperConfig(
            d_model=16,
            vocab_size=30,
            num_mel_bins=16,
            max_source_positions=50,
            pad_token_id=0,
            **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 24),
        )
    ),
}
"""By name: the model."""


def save_audio(name: str, folder: Path) -> str:
    """An audio encoder: AST for 0.32 s and Whisper for 1 s, both at 16 kHz, others for any length at 8 kHz."""
    torch.manual_seed(0)
    AUDIO[name]().save_pretrained(folder)
    extractors = {
        "ast": lambda: t.ASTFeatureExtractor(num_mel_bins=16, max_length=32),
        "whisper": lambda: t.WhisperFeatureExtractor(feature_size=16, chunk_length=1),
    }
    extractors.get(name, lambda: t.Wav2Vec2FeatureExtractor(sampling_rate=8000))().save_pretrained(folder)
    return str(folder)


def save_llama(folder: Path, words: list[str], **settings) -> str:
    """A causal language model whose tokenizer knows words, puts <s> first and has no padding token."""
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = t.LlamaConfig(vocab_size=len(vocabulary), num_key_value_heads=1, **SIZES, **settings)
    t.LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def save_dnabert(folder: Path, lower: bool = False) -> str:
    """DNABERT: a BERT over the 4096 words of six bases."""
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *KMERS])}
    config = t.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, **SIZES)
    t.BertForMaskedLM(config).save_pretrained(folder)
    t.BertTokenizer(vocab=vocabulary, do_lower_case=lower).save_pretrained(folder)
    return str(folder)


def save_nucleotide_transformer(folder: Path) -> str:
    """Nucleotide Transformer: an ESM over words of six bases and single bases."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    words = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *KMERS, *"ATCGN"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = t.EsmTokenizer(str(folder / "vocab.txt"), eos_token=None, model_max_length=40)
    tokenizer.save_pretrained(folder)
    config = t.EsmConfig(
        vocab_size=len(words), pad_token_id=1, mask_token_id=2, max_position_embeddings=42, **SIZES
    )
    t.EsmForMaskedLM(config).save_pretrained(folder)
    return str(folder)


def save_dnabert2(folder: Path) -> str:
    """DNABERT-2: a MosaicBERT over byte pairs, in a folder that asks for code of its own."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    draw = torch.Generator().manual_seed(0)
    lines = ["".join("ACGT"[i] for i in torch.randint(4, (60,), generator=draw)) for _ in range(50)]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL))
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    settings = {**SIZES, "vocab_size": 60, "max_position_embeddings": 40, "model_type": "bert"}
    code = {"AutoConfig": "configuration_bert.BertConfig", "AutoModel": "bert_layers.BertModel"}
    settings |= {"alibi_starting_size": 40, "architectures": ["BertForMaskedLM"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("configuration_bert.py", "bert_layers.py"):
        (folder / name).write_text("raise SystemExit('code of the checkpoint was run')")
    save_file(mosaic_weights(), folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def mosaic_weights() -> dict[str, torch.Tensor]:
    """Random weights by the names of a MosaicBERT checkpoint."""
    d, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    norm = {"weight": (d,), "bias": (d,)}
    shapes = {"embeddings.word_embeddings": {"weight": (60, d)}, "embeddings.LayerNorm": norm}
    shapes["embeddings.token_type_embeddings"] = {"weight": (2, d)}
    for layer in range(SIZES["num_hidden_layers"]):
        shapes |= {
            f"encoder.layer.{layer}.attention.self.Wqkv": {"weight": (3 * d, d), "bias": (3 * d,)},
            f"encoder.layer.{layer}.attention.output.dense": {"weight": (d, d), "bias": (d,)},
            f"encoder.layer.{layer}.attention.output.LayerNorm": norm,
            f"encoder.layer.{layer}.mlp.gated_layers": {"weight": (2 * inner, d)},
            f"encoder.layer.{layer}.mlp.wo": {"weight": (d, inner), "bias": (d,)},
            f"encoder.layer.{layer}.mlp.layernorm": norm,
        }
    return {
        f"bert.{module}.{kind}": torch.randn(shape) * 0.3
        for module, kinds in shapes.items()
        for kind, shape in kinds.items()
    }
