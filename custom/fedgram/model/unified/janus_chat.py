"""Janus's chat format as token ids, which its processor makes of questions, prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.janus.processing_janus import DEFAULT_SYSTEM_PROMPT

from fedgram.errors import BackboneError, DataError


@dataclass(frozen=True)
class Ids:
    """Token ids of N texts, filled up to one length.

    Attributes:
        values: (N, P), int64.
        mask: (N, P), int64; 0 where a text was filled up.
    """

    values: Tensor
    mask: Tensor


class Chat:
    """A converter between texts and ids in Janus's chat format.

    Args:
        processor: a ``JanusProcessor``.
        where: of the checkpoint, for messages.

    Raises:
        BackboneError: the checkpoint has no chat template, or its tokenizer lacks a token that Janus needs.
    """

    def __init__(self, processor: Any, where: str):
        self._processor, self._tokenizer = processor, processor.tokenizer
        self._where = where
        self._system = DEFAULT_SYSTEM_PROMPT if processor.use_default_system_prompt else ""
        tokenizer = self._tokenizer
        needed = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
        absent = [name for name, value in needed.items() if value is None]
        if absent or not processor.chat_template:
            raise BackboneError(
                f"no {' and '.join(absent)} token" if absent else "no chat template",
                where=where,
                expected="tokenizer and chat template as in the published Janus checkpoints",
            )
        self._pictures = (processor.image_token, processor.image_start_token, processor.image_end_token)
        self.image, begin = tokenizer.convert_tokens_to_ids(list(self._pictures[:2]))
        self.end, self._pad = needed["eos"], needed["pad"]
        self._kept = torch.tensor([needed["bos"], begin])

    def questions(self, texts: Sequence[str], tokens: int) -> Ids:
        """Encode questions up to where the answer begins, a picture of ``tokens`` placeholders before each.

        They are filled up on the left.

        Raises:
            DataError: a text holds a token that stands for a picture.
        """
        picture = {"type": "image"}
        chats = [self._chat([picture, {"type": "text", "text": text}]) for text in texts]
        image, begin, end = self._pictures
        ids = self._encode([self._system + chat.replace(image, begin + image * tokens + end, 1) for chat in chats])
        if ((ids.values == self.image).sum(1) != tokens).any():
            raise DataError(
                "a question holds a token that stands for a picture", where=self._where, remedy="remove it"
            )
        return ids

    def prompts(self, texts: Sequence[str]) -> Ids:
        """Encode prompts up to the token after which the codes of the picture follow; filled up on the left."""
        return self._encode([self._chat([{"type": "text", "text": text}]) + self._pictures[1] for text in texts])

    def pictures(self, count: int, tokens: int) -> Ids:
        """Encode pictures with no words: the beginning of a text, and ``tokens`` placeholders."""
        row = torch.tensor([*self._kept.tolist(), *([self.image] * tokens)])
        return Ids(row.repeat(count, 1), torch.ones(count, len(row), dtype=torch.long))

    def answers(self, texts: Sequence[str]) -> Ids:
        """Encode answers of an assistant, with the token that ends them; filled up on the right."""
        rows = [self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"] + [self.end] for text in texts]
        longest = max(len(row) for row in rows)
        values = torch.tensor([row + [self._pad] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return Ids(values, (torch.arange(longest) < lengths[:, None]).long())

    def without_words(self, values: Tensor) -> Tensor:
        """Empty prompts of their words: only the beginnings of text and picture stay, as in Janus."""
        return values.masked_fill(~torch.isin(values, self._kept.to(values.device)), self._pad)

    def read(self, values: Tensor) -> list[str]:
        """Decode answers into text, up to the token that ends them."""
        ends = [[*row, self.end].index(self.end) for row in values.tolist()]
        rows = [row[:end] for row, end in zip(values.tolist(), ends, strict=True)]
        return [text.strip() for text in self._tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def _chat(self, content: list[dict[str, str]]) -> str:
        message = [{"role": "user", "content": content}]
        return self._processor.apply_chat_template(message, add_generation_prompt=True, tokenize=False)

    def _encode(self, texts: list[str]) -> Ids:
        batch = self._tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        return Ids(batch["input_ids"], batch["attention_mask"])
