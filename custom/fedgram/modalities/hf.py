"""Frozen Hugging Face encoders, by hub id or folder: the token path of images, text and DNA."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from fedgram.errors import DataError
from fedgram.pretrained import quiet_loading
from fedgram.types import Tokens


def hash_weights(model: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters and buffers."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_part(kind: Any, name: str) -> Any:
    """``kind.from_pretrained(name)`` with a typed error; code from the hub is never run.

    Raises:
        DataError: no such model, or it needs code of its own.
    """
    try:
        with quiet_loading():
            return kind.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"cannot load the encoder: {str(error).splitlines()[0]}",
            where=f"tokenizer {name!r}",
            expected="a built-in tokenizer, a hub id, or a folder written by save_pretrained",
            remedy="without a network, name a local folder",
        ) from error


def load_encoder(name: str) -> Any:
    """A frozen encoder, float32, in evaluation mode."""
    from transformers import AutoModel

    return load_part(AutoModel, name).float().eval().requires_grad_(False)


class SequenceEncoder:
    """Last hidden states of a text or DNA encoder.

    Args:
        name: hub id or folder.
        max_length: L; shorter sequences are padded (mask False), longer ones cut.
    """

    def __init__(self, name: str, max_length: int):
        from transformers import AutoTokenizer

        self._tokenizer = load_part(AutoTokenizer, name)
        if self._tokenizer.pad_token is None:  # language models often have none; padding is masked anyway
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"
        self._model = load_encoder(name)
        self._max_length = max_length
        self.width: int = self._model.config.hidden_size
        vocabulary = sha256(repr(sorted(self._tokenizer.get_vocab().items())).encode()).hexdigest()
        self.identity = f"hf-sequence:1:{max_length}:{vocabulary}:{hash_weights(self._model)}"

    @torch.no_grad()
    def __call__(self, contents: Sequence[str]) -> Tokens:
        batch = self._tokenizer(
            list(contents),
            padding="max_length",
            truncation=True,
            max_length=self._max_length,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        hidden: Tensor = self._model(**batch).last_hidden_state
        return Tokens(hidden, batch["attention_mask"].bool())
