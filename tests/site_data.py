"""Small data of every modality, written to a folder, and tiny Hugging Face encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

TEXT = "id,text,concept,group\na,small dog,dog,1\nb,large cat,cat,2\nc,grey dog,dog,3\n"
LABELS = "id,concept,group\na,dog,1\nb,cat,2\nc,dog,3\n"
FASTA = ">a wolf\nACGTACGTAC\nACGTTTGACC\n>b\nAC-GTNNACGTACGATTACAGG\n>c\nGGGTACGTACCATGACGTTT\n"
TABLE = "id,concept,group,mass,brain\na,dog,1,3.5,80\nb,cat,2,,25\nc,dog,3,NA,60\n"


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_sound(path: Path, pitch: float, seconds: float = 0.3, rate: int = 16_000) -> None:
    """A tone with noise."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(int(pitch)).normal(size=time.shape)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * noise, rate)


def write_site(modality: str, folder: Path) -> Path:
    """Three samples: two dogs, one cat, each a group of its own. Returns what the site file would name."""
    if modality == "image":
        for seed, name in enumerate(("dog/a.png", "cat/b.png", "dog/c.png")):
            write_image(folder / "images" / name, seed)
        return folder / "images"
    if modality == "audio":
        for pitch, name in ((300, "dog/a.wav"), (900, "cat/b.flac"), (350, "dog/c.ogg")):
            write_sound(folder / "sounds" / name, pitch)
        return folder / "sounds"
    if modality == "genomics":
        (folder / "labels.fasta").write_text(FASTA)
        (folder / "labels.csv").write_text(LABELS)
        return folder / "labels.fasta"
    path = folder / f"{modality}.csv"
    path.write_text({"text": TEXT, "tabular": TABLE}[modality])
    return path


def write_anchor(modality: str, folder: Path) -> Path:
    suffixes = {"image": "png", "text": "txt", "genomics": "fasta", "tabular": "csv", "audio": "wav"}
    path = folder / f"a.{suffixes[modality]}"
    if modality == "image":
        write_image(path, 9)
    elif modality == "audio":
        write_sound(path, 500)
    else:
        content = {"text": "a dog\n", "genomics": ">x\nACGTACGTACGT\n", "tabular": "mass,brain\n4,\n"}
        path.write_text(content[modality])
    return path


def save_vit(folder: Path) -> str:
    """A ViT with 4 patches, d = 16."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return str(folder)


def save_bert(folder: Path, words: list[str], seed: int = 0) -> str:
    """A BERT with the given vocabulary, d = 16."""
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return str(folder)
