"""BLIP3o as a unified model: one Qwen2.5-VL tower that reads pictures, and writes states to make pictures from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt
from typing import Any

import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from fedgram.errors import BackboneError
from fedgram.model.backbone import fingerprint
from fedgram.model.site_model import input_embeddings
from fedgram.model.unified.base import Untrained
from fedgram.model.unified.blip3o.clip import EvaClip
from fedgram.model.unified.blip3o.decoder import Decoder
from fedgram.model.unified.blip3o.flow import (
    Velocity,
    draw_noise,
    draw_times,
    guided,
    integrate,
    matching_loss,
    predicted,
)
from fedgram.model.unified.blip3o.head import PLACES
from fedgram.model.unified.blip3o.sequences import (
    BEFORE_PICTURE,
    END,
    PICTURE_STARTS,
    PaddedPieces,
    Piece,
    after_picture,
    join,
    picture_piece,
    picture_prompt,
    text_piece,
)

PIXELS = 448  # side of a picture as BLIP3o's training reads it
TOKENS = 16 * 16  # of such a picture
DROPPED = 0.1  # share of prompts that training drops, for guidance
ANSWER_TOKENS = 32
CLIP_WEIGHTS = "jiuhai/eva_clip_vision_tower"  # where BLIP3o's authors publish EVA-CLIP by itself


class Blip3o(nn.Module):
    """BLIP3o as a :class:`fedgram.model.unified.base.UnifiedModel`, which documents the methods.

    Everything is frozen. ``tower`` and ``head`` may be replaced by what :func:`fedgram.model.attaching.attach`
    makes of them, or the head's parameters may be trained themselves.

    Args:
        tower: Qwen2.5-VL's, as :func:`fedgram.model.backbone.load_backbone` gives it.
        answers: the tower's states to logits, d → vocabulary.
        head: :class:`fedgram.model.unified.blip3o.head.PictureHead`.
        vision: Qwen2.5-VL's vision tower, for understanding.
        clip: for targets; None where nothing is generated.
        tokenizer: of the checkpoint.
        decoder: gives what makes pixels of features, when the first picture is asked for.
    """

    def __init__(
        self,
        *,
        tower: nn.Module,
        answers: nn.Linear,
        head: nn.Module,
        vision: Any,
        clip: EvaClip | None,
        tokenizer: Any,
        decoder: Callable[[], Decoder],
    ):
        super().__init__()
        self.tower, self.head = tower, head
        self._answers, self._vision, self._clip, self._decoder = answers, vision, clip, decoder
        self._tokenizer = tokenizer
        self._end, self._picture = (_token(tokenizer, token) for token in (END, PICTURE_STARTS))

    @torch.no_grad()
    def see(self, images: Sequence[Image]) -> Tensor:
        """Tokens (N, 256, d) of the whole picture, stretched to a square, for a question may be about its edge."""
        config = self._vision.config
        read = Qwen2VLImageProcessorPil(
            patch_size=config.patch_size,
            temporal_patch_size=config.temporal_patch_size,
            merge_size=config.spatial_merge_size,
        )
        squares = [image.convert("RGB").resize((PIXELS, PIXELS), Resampling.BICUBIC) for image in images]
        inputs = read(images=squares, return_tensors="pt").to(self._device)
        pixels = inputs["pixel_values"].to(self._vision.dtype)
        tokens = self._vision(pixels, grid_thw=inputs["image_grid_thw"]).pooler_output
        return tokens.unflatten(0, (len(images), -1)).float()

    def targets(self, images: Sequence[Image]) -> Tensor:
        """EVA-CLIP's features of the pictures, (N, 64, 1792)."""
        if self._clip is None:
            raise BackboneError(
                "no weights of EVA-CLIP",
                where="BLIP3o",
                remedy=f"fetch {CLIP_WEIGHTS}, and name its folder under [backbones] in the site file",
            )
        return self._clip(images)

    def identity(self, part: str) -> str:
        """The hash of Qwen's vision tower or of EVA-CLIP, and its precision; empty without that part."""
        frozen = {"see": self._vision, "targets": self._clip}[part]
        if frozen is None:
            return ""
        precision = next(frozen.parameters()).dtype
        return f"blip3o {part} {fingerprint(frozen)} {precision} {PIXELS if part == 'see' else ''}"

    def understanding_loss(self, seen: Tensor, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        asked = [self._asked(*pair) for pair in zip(seen, questions, strict=True)]
        wanted = [self._ids(answer + END) for answer in answers]
        given = [[*pieces, self._text(ids)] for pieces, ids in zip(asked, wanted, strict=True)]
        batch = join(given)
        states = self._states(batch)
        # The state before a token says which one follows.
        rows = [
            states[i, length - len(ids) - 1 : length - 1]
            for i, (length, ids) in enumerate(zip(batch.lengths.tolist(), wanted, strict=True))
        ]
        return cross_entropy(self._logits(torch.cat(rows)), torch.cat(wanted))

    def generation_loss(self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of flow matching; a dropped prompt's states are 0, as in BLIP3o."""
        kept, times, noise = self._draws(targets, generator)
        return matching_loss(self._predict(prompts, kept), targets.to(self._device), noise, times)

    def rehearsal_losses(
        self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator, untrained: Untrained
    ) -> tuple[Tensor, Tensor]:
        """The loss of flow matching, and the mean square of the step from the base's velocity to the model's."""
        kept, times, noise = self._draws(targets, generator)
        data = targets.to(self._device)
        with torch.no_grad(), untrained():
            base = predicted(self._predict(prompts, kept), data, noise, times)
        now = predicted(self._predict(prompts, kept), data, noise, times)
        return (now - (noise - data)).square().mean(), (now - base).square().mean()

    @torch.no_grad()
    def understand(self, seen: Tensor, questions: Sequence[str]) -> list[str]:
        batch = join([self._asked(*pair) for pair in zip(seen, questions, strict=True)])
        output = self._run(batch.embeds, batch.mask, batch.positions, use_cache=True)
        rows = torch.arange(len(questions), device=self._device)
        states, mask = output.last_hidden_state[rows, batch.lengths - 1], batch.mask
        places = batch.positions.amax((0, 2)) + 1
        said: list[Tensor] = []
        done = torch.zeros_like(rows, dtype=torch.bool)
        for _ in range(ANSWER_TOKENS):
            said.append(self._logits(states).argmax(-1).masked_fill(done, self._end))
            done |= said[-1] == self._end
            if done.all():
                break
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            output = self._run(
                self._embed(said[-1][:, None]),
                mask,
                places.expand(3, -1)[..., None],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            states, places = output.last_hidden_state[:, -1], places + 1
        answers = self._tokenizer.batch_decode(torch.stack(said, dim=1), skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], generator: torch.Generator) -> list[Image]:
        """Make one picture for each prompt, through features and the decoder.

        Raises:
            BackboneError: the checkpoint has no decoder.
        """
        decode = self._decoder()
        return decode(*self.imagine(prompts, generator), generator)

    @torch.no_grad()
    def imagine(self, prompts: Sequence[str], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make picture features of each prompt, (N, T, c), and of no words at all, (1, T, c), float32."""
        states = torch.cat([self._prompted(prompts), self._states_at_queries([self._picture_starts("")])])
        shape: Any = (len(states), PLACES, self.head.channels)
        given, without = (partial(self._velocity, z) for z in (states, torch.zeros_like(states)))
        noise = draw_noise(shape, generator).to(self._device)
        features = integrate(guided(given, without), noise)
        return features[:-1], features[-1:]

    def represent(self, seen: Tensor) -> Tensor:
        before = self._ids(BEFORE_PICTURE)
        batch = join([[self._text(before), self._seen(one)] for one in seen])
        return self._states(batch)[:, len(before) :].float().mean(1)

    # sequences

    def _asked(self, seen: Tensor, question: str) -> list[Piece]:
        before, after = BEFORE_PICTURE, after_picture(question)
        return [self._text(self._ids(before)), self._seen(seen), self._text(self._ids(after))]

    def _picture_starts(self, text: str) -> list[Piece]:
        ids = torch.cat([self._ids(text), torch.tensor([self._picture], device=self._device)])
        queries: Any = self.head.queries
        return [self._text(ids), text_piece(queries.to(self._dtype))]

    def _ids(self, text: str) -> Tensor:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.long, device=self._device)

    def _text(self, ids: Tensor) -> Piece:
        return text_piece(self._embed(ids))

    def _seen(self, tokens: Tensor) -> Piece:
        side = isqrt(tokens.shape[0])
        if tokens.dim() != 2 or side**2 != tokens.shape[0] or tokens.shape[1] != self._width:
            raise BackboneError(
                f"a picture's tokens of shape {tuple(tokens.shape)}",
                where="BLIP3o",
                expected=f"(L, {self._width}) with L a square, as see() gives them",
            )
        return picture_piece(tokens.to(self._device, self._dtype))

    # parts

    def _prompted(self, prompts: Sequence[str]) -> Tensor:
        """The tower's states at the query tokens after each prompt, (N, Q, d)."""
        return self._states_at_queries([self._picture_starts(picture_prompt(p)) for p in prompts])

    def _draws(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw for a training batch: 1 for prompts that are kept, (N, 1, 1), times, (N,), and noise, (N, T, c)."""
        kept = torch.rand(len(targets), generator=generator, device=generator.device) >= DROPPED
        times = draw_times(len(targets), generator).to(self._device)
        noise = draw_noise(tuple(targets.shape), generator).to(self._device)
        return kept.to(self._device).view(-1, 1, 1), times, noise

    def _predict(self, prompts: Sequence[str], kept: Tensor) -> Velocity:
        return partial(self._velocity, self._prompted(prompts) * kept)

    def _states_at_queries(self, given: Sequence[Sequence[Piece]]) -> Tensor:
        batch = join(given)
        count, rows = len(given[0][-1].embeds), zip(self._states(batch), batch.lengths.tolist(), strict=True)
        return torch.stack([states[length - count : length] for states, length in rows])

    def _states(self, batch: PaddedPieces) -> Tensor:
        return self._run(batch.embeds, batch.mask, batch.positions).last_hidden_state

    def _run(self, embeds: Tensor, mask: Tensor, positions: Tensor, **cache: Any) -> Any:
        return self.tower(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, **cache)

    def _velocity(self, states: Tensor, x: Tensor, times: Tensor) -> Tensor:
        return self.head(x, times, states)

    def _embed(self, ids: Tensor) -> Tensor:
        return input_embeddings(self.tower)(ids)

    def _logits(self, states: Tensor) -> Tensor:
        return self._answers(states.to(self._answers.weight.dtype)).float()

    @property
    def _table(self) -> Tensor:
        return input_embeddings(self.tower).weight

    @property
    def _device(self) -> torch.device:
        return self._table.device

    @property
    def _dtype(self) -> torch.dtype:
        return self._table.dtype

    @property
    def _width(self) -> int:
        return self._table.shape[1]


def _token(tokenizer: Any, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == tokenizer.unk_token_id:
        raise BackboneError(
            f"the tokenizer has no token {token!r}",
            where="BLIP3o",
            expected="Qwen2.5's with BLIP3o's own tokens",
            remedy="take the tokenizer's files from the BLIP3o checkpoint",
        )
    return found
