"""A cache of frozen tokens on disk, so that they are computed once."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from fedgram.errors import CheckpointError, DataError
from fedgram.files import read_tensors, write_tensors
from fedgram.modalities.base import Tokenizer
from fedgram.records import Tokens

log = logging.getLogger("fedgram.tokens")

_FORMAT = 1  # raise it when the meaning of stored tokens changes
_BATCH = 64


def cached_tokens(
    tokenizer: Tokenizer, contents: Sequence[Any], fingerprints: Sequence[bytes], folder: Path
) -> Tokens:
    """Tokens (N, L, d_m), float32, from the cache if they are there, in the order of ``contents``.

    Safe when several processes start at once: each writes a file of its own and moves it into place. A
    damaged file is replaced.

    Args:
        fingerprints: of the contents, in the same order.
        folder: of the cache; made if missing.

    Raises:
        DataError: a content cannot be tokenised, or the encoder gives values that are not finite.
    """
    if not contents:
        return Tokens(torch.zeros(0, 0, tokenizer.width), torch.zeros(0, 0, dtype=torch.bool))
    path = folder / "tokens" / f"{_key(tokenizer, fingerprints)}.safetensors"
    if (stored := _load(path)) is not None:
        return stored
    tokens = _tokenize(tokenizer, contents)
    write_tensors(path, {"values": tokens.values, "mask": tokens.mask})
    return tokens


def _key(tokenizer: Tokenizer, fingerprints: Sequence[bytes]) -> str:
    parts = [sha256(content).hexdigest() for content in fingerprints]
    return sha256(json.dumps([_FORMAT, tokenizer.identity, parts]).encode()).hexdigest()


def _load(path: Path) -> Tokens | None:
    if not path.exists():
        return None
    try:
        tensors, _ = read_tensors(path, "none needed")
        return Tokens(tensors["values"], tensors["mask"])
    except (CheckpointError, KeyError):
        log.warning("damaged token cache (or one of fedgram 0.1) %s: tokenising again", path)
        return None


def _tokenize(tokenizer: Tokenizer, contents: Sequence[Any]) -> Tokens:
    parts = []
    for start in range(0, len(contents), _BATCH):
        parts.append(tokenizer(contents[start : start + _BATCH]))
        log.info("tokenised %d of %d", min(start + _BATCH, len(contents)), len(contents))
    values, mask = torch.cat([p.values for p in parts]), torch.cat([p.mask for p in parts])
    if not torch.isfinite(values).all():
        sample = int((~torch.isfinite(values)).flatten(1).any(1).int().argmax())
        raise DataError(
            f"tokens of sample {sample + 1} are not finite",
            where=tokenizer.identity[:60],
            remedy="look at that sample, or choose another encoder",
        )
    return Tokens(values, mask)
