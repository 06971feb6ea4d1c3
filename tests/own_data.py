"""Four sites with real data and a task each: silhouettes to cut out, glosses with labels, DNA, patients.

What people have: images with masks, JSONL, FASTA with a table of labels, a Parquet table with a number to predict.
"""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.site import Columns, SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.demo.names import locate
from PIL import Image
from sklearn.datasets import load_diabetes
from toy import ROOT, Toy
from transformers import BertConfig, BertModel

SLOTS, PARTS = 12, ("train", "heldout")
TASKS = {"image": "segmentation", "text": "multilabel", "genomics": "classification", "tabular": "regression"}


def write_masks(folder: Path, cache: Path, each: int = 16) -> None:
    """Silhouettes, dimmed and with noise, and where they are."""
    generator = np.random.default_rng(0)
    source = locate("demo:carnivora/image", cache)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for family in ("Canidae", "Felidae", "Ursidae"):
        for path in sorted((source / family).glob("*.png"))[:each]:
            mask = np.asarray(Image.open(path).convert("L")) > 127
            noisy = np.where(mask, 90, 150) + generator.normal(0, 10, mask.shape)
            for name, values in (("images", noisy), ("masks", mask)):
                Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{family}-{path.name}")


def write_texts(path: Path, cache: Path) -> None:
    """Glosses with their family and, where they say so, that they are about a breed."""
    table = pd.read_csv(locate("demo:carnivora/text", cache)).iloc[::2]
    breeds = table["text"].str.contains("breed")
    labels = table["concept"].where(~breeds, table["concept"] + "|breed")
    table.assign(labels=labels).drop(columns="group").to_json(path, orient="records", lines=True)


def write_patients(path: Path) -> list[dict[str, object]]:
    """Diabetes progression after a year (Efron 2004): 442 patients; returns some that are kept for anchors."""
    data = load_diabetes(as_frame=True, scaled=False)
    table = data.frame.assign(sex=data.frame["sex"].map({1.0: "f", 2.0: "m"}))
    table.loc[::17, "s3"] = np.nan
    table = table.rename(columns={"target": "progression"})
    table.iloc[2 * SLOTS :].to_parquet(path)
    return table.iloc[: 2 * SLOTS].drop(columns="progression").to_dict("records")


def write_anchors(folder: Path, part: str, patients: list[dict[str, object]]) -> AnchorPin:
    """Slots of the demo; the tables are patients, for the table knows no families."""
    source = ROOT / "anchors" / "carnivora" / part
    slots = json.loads((source / "manifest.json").read_text())["slots"][::2][:SLOTS]
    for slot, patient in zip(slots, patients, strict=True):
        for file in slot["files"].values():
            (folder / file["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file["path"], folder / file["path"])
        path = folder / "tabular" / f"{slot['id']}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([patient]).to_csv(path, index=False)
        slot["files"]["tabular"] = {
            "path": f"tabular/{path.name}",
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "origin": "real",
            "licence": "BSD-3-Clause",
            "source": "scikit-learn's diabetes data",
        }
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "name": part, "slots": slots}))
    return AnchorPin(load_anchors(folder).manifest_sha256, tuple(slot["concept"] for slot in slots))


def make(root: Path) -> Toy:
    """Write everything below ``root`` and describe it."""
    cache = root / "cache"
    write_masks(root / "silhouettes", cache)
    write_texts(root / "glosses.jsonl", cache)
    for suffix in ("fasta", "csv"):
        shutil.copy(locate("demo:carnivora/genomics", cache).with_suffix(f".{suffix}"), root / f"reads.{suffix}")
    patients = write_patients(root / "patients.parquet")
    train, heldout = (write_anchors(root / part, part, patients[i::2]) for i, part in enumerate(PARTS))
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=30, max_position_embeddings=64, **shape)).save_pretrained(root / "small")
    data = {
        "image": ("silhouettes", "efficientnet-lite0-map", Columns()),
        "text": ("glosses.jsonl", "minilm", Columns(group="id", target="labels")),
        "genomics": ("reads.fasta", "kmer", Columns()),
        "tabular": ("patients.parquet", "numeric", Columns(group="id", target="progression")),
    }
    sites = {
        modality: SiteConfig(
            secret="",
            modality=modality,
            data=str(root / name),
            tokenizer=tokenizer,
            anchors=str(root / "train"),
            heldout=str(root / "heldout"),
            task=TASKS[modality],
            columns=columns,
            backbones={"small": str(root / "small")},
            device="cpu",
            threads=1,
            cache=str(cache),
        )
        for modality, (name, tokenizer, columns) in data.items()
    }
    plain = {
        "anchors": to_dict(train),
        "heldout": to_dict(heldout),
        "backbone": {"name": "small"},
        "adapter": {"rank": 8, "alpha": 16.0},
        "training": {"rounds": 3, "local_steps": 16, "batch_size": 16, "local_learning_rate": 3e-3},
    }
    return Toy(root, from_dict(JobConfig, plain, "test"), sites)
