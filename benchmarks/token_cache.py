"""The time of reading tokens from the cache against tokenising again.

    python benchmarks/token_cache.py [--repeats 5]

All samples of the demo's four sites, through their own tokenizers: what a site pays when it is opened for the
first time, and when it is opened again. (Within a run the tokens stay in memory.) Medians of interleaved repeats;
reading the files' fingerprints counts, opening the encoder does not. Goal: 10. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from fedgram import modalities
from fedgram.config.site import read_site_config
from fedgram.demo.names import resolve
from fedgram.sites.channel import Channel
from fedgram.sites.samples import read_samples

ROOT = Path(__file__).resolve().parents[1]
SITE_FILES = sorted((ROOT / "provisioning/simulator/local/fedgram").glob("hosp-*.toml"))
GOAL = 10


def measure(site_file: Path, repeats: int) -> dict[str, float | int | str]:
    """Seconds without and with the cache, for all samples of a site."""
    config = resolve(read_site_config(site_file))
    modality = modalities.load(config.modality)
    samples = read_samples(config, modality)
    tokenizer = modality.tokenizer(config.tokenizer, samples)
    contents = [sample.content for sample in samples]
    empty, found = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            channel = Channel(modality, tokenizer, None, Path(folder))
            for seconds in (empty, found):
                start = time.perf_counter()
                channel.tokens_of(contents)
                seconds.append(time.perf_counter() - start)
    return {
        "tokenizer": config.tokenizer,
        "samples": len(samples),
        "tokenising": round(median(empty), 4),
        "from the cache": round(median(found), 4),
        "times faster": round(median(a / b for a, b in zip(empty, found, strict=True)), 1),
    }


def main() -> None:
    """Measure every site and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(json.dumps({**{file.stem: measure(file, repeats) for file in SITE_FILES}, "goal": GOAL}, indent=1))


if __name__ == "__main__":
    main()
