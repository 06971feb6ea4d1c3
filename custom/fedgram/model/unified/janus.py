"""Janus (Chen et al. 2025, arXiv 2501.17811) as a unified model: transformers' own class around one Llama tower.

Frozen are the vision tower, its aligner, the VQ-VAE, the embedding of its codes, both heads and the token
embeddings. What trains is the low-rank update of the language tower, and nothing else: it is all that travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image, fromarray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from fedgram.config.job import BackboneConfig
from fedgram.config.site import Precision
from fedgram.errors import BackboneError
from fedgram.model.backbone import checkpoint_settings, fingerprint
from fedgram.model.placement import keep_differentiable, loading_options
from fedgram.model.site_model import input_embeddings
from fedgram.model.unified.base import Untrained
from fedgram.model.unified.janus_chat import Chat, Ids
from fedgram.pretrained import load_model, load_part

_GUIDANCE = 5.0  # of classifier-free guidance, where the checkpoint does not say: the default of Janus
_DROPPED = 0.1  # share of prompts that are learnt without words, for that guidance
# Quantised is the language tower alone: all else is small, and works on pictures.
_WHOLE = ("vision_model", "aligner", "vqmodel", "generation_aligner", "generation_head")
_ANSWER_TOKENS = 32  # of a greedy answer, at most


def load_janus(
    config: BackboneConfig, folders: Mapping[str, str], precision: Precision = "fp32", device: str = "cpu"
) -> Janus:
    """Load a frozen Janus checkpoint, by hub id, packaged name or the site's own folder.

    Args:
        config: its name and how many layers of the language tower to keep.
        folders: the site's own folder by backbone name.
        precision: of the language tower; the other parts are in bf16 where it is quantised.
        device: where they lie.

    Raises:
        BackboneError: it cannot be loaded, is no Janus, or lacks weights.
    """
    from transformers import JanusForConditionalGeneration, JanusProcessor

    where = f"backbone {config.name!r}"
    source, settings, text = checkpoint_settings(config, folders)
    if settings.model_type != "janus":
        raise BackboneError(
            f"a model of type {settings.model_type!r}", where=where, expected="a unified model: janus"
        )
    text.use_cache = False  # only generation keeps one, and says so
    options = loading_options(precision, device, where)
    if "quantization_config" in options:
        options["quantization_config"].llm_int8_skip_modules = ["lm_head", *(f"model.{part}" for part in _WHOLE)]
    model = load_model(
        JanusForConditionalGeneration, source, settings, where=where, error=BackboneError, **options
    )
    keep_differentiable(model)
    processor = load_part(JanusProcessor, source, where=where, error=BackboneError)
    return Janus(model, Chat(processor, where), processor)


class Janus:
    """Janus as a :class:`~fedgram.model.unified.base.UnifiedModel`, which documents the methods.

    The cut between what is computed once and what is computed in every step lies before the aligner: ``see`` is
    the output of the vision tower, (N, L, d_v).

    Args:
        model: a ``JanusForConditionalGeneration``, frozen, in evaluation mode.
        chat: its text format.
        processor: its ``JanusProcessor``.
    """

    def __init__(self, model: Any, chat: Chat, processor: Any):
        self.model, self.processor, self.chat = model, processor, chat
        self.tower: nn.Module = model.model.language_model
        self.head: nn.Module = model.model.generation_head
        self._guidance = model.generation_config.guidance_scale or _GUIDANCE

    @torch.no_grad()
    def see(self, images: Sequence[Image]) -> Tensor:
        """The output of the vision tower, (N, L, d_v), float32, before the aligner."""
        return self.model.model.vision_model(self._pixels(images)).last_hidden_state.float()

    @torch.no_grad()
    def targets(self, images: Sequence[Image]) -> Tensor:
        """The VQ-VAE's codes of the pictures, row by row, (N, T), int64."""
        codes = self.model.model.vqmodel.encode(self._pixels(images)).image_tokens
        return codes.reshape(len(images), -1)

    def identity(self, part: str) -> str:
        """The hash of the vision tower or the VQ-VAE, its precision, and the settings to read pictures by."""
        frozen = {"see": self.model.model.vision_model, "targets": self.model.model.vqmodel}[part]
        reading = self.processor.image_processor.to_json_string()
        return f"janus {part} {fingerprint(frozen)} {self.model.dtype} {reading}"

    def understanding_loss(self, seen: Tensor, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy of the answers' tokens, the one that ends them included, a scalar.

        Raises:
            DataError: a question holds a token that stands for a picture.
        """
        asked, given = self.chat.questions(questions, seen.shape[1]), self.chat.answers(answers)
        values = torch.cat([asked.values, given.values], 1).to(self._device)
        embedded = self._with_pictures(values, seen)[:, :-1]
        mask = torch.cat([asked.mask, given.mask], 1)[:, :-1].to(self._device)
        states = self.tower(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        there = given.mask.bool().to(self._device)
        logits = self.model.lm_head(states[:, -given.values.shape[1] :][there]).float()
        return cross_entropy(logits, given.values.to(self._device)[there])

    def generation_loss(self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator) -> Tensor:
        """Mean cross-entropy of the codes, a scalar; one prompt in ten is learnt without its words."""
        return self.codes_loss(self._with_some_dropped(prompts, generator), targets)

    def codes_loss(self, said: Ids, targets: Tensor) -> Tensor:
        """Mean cross-entropy of codes, (N, T), after these prompts, a scalar."""
        return cross_entropy(self._code_logits(said, targets), targets.to(self._device).flatten())

    def rehearsal_losses(
        self, prompts: Sequence[str], targets: Tensor, generator: torch.Generator, untrained: Untrained
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the codes, and KL(base ‖ model), the mean over the codes, in nats."""
        said = self._with_some_dropped(prompts, generator)
        with torch.no_grad(), untrained():
            base = self._code_logits(said, targets).log_softmax(-1)
        logits = self._code_logits(said, targets)
        drift = kl_div(logits.log_softmax(-1), base, reduction="batchmean", log_target=True)
        return cross_entropy(logits, targets.to(self._device).flatten()), drift

    @torch.no_grad()
    def understand(self, seen: Tensor, questions: Sequence[str]) -> list[str]:
        """Answer questions greedily, in at most 32 tokens.

        Raises:
            DataError: a question holds a token that stands for a picture.
        """
        asked = self.chat.questions(questions, seen.shape[1])
        embedded = self._with_pictures(asked.values.to(self._device), seen)
        words = self._continue(embedded, asked.mask, self._greedy, self._embed, _ANSWER_TOKENS, self.chat.end)
        return self.chat.read(words)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], generator: torch.Generator) -> list[Image]:
        """Make one picture for each prompt, its codes drawn under classifier-free guidance as in Janus.

        Args:
            prompts: of any lengths.
            generator: on the CPU, so that a seed gives the same pictures wherever the model computes.
        """
        said = self.chat.prompts(prompts)
        values = torch.cat([said.values, self.chat.without_words(said.values)]).to(self._device)

        def draw(states: Tensor) -> Tensor:
            with_words, without = self.head(states).float().chunk(2)
            guided = without + self._guidance * (with_words - without)
            chosen = torch.multinomial(guided.softmax(-1).cpu(), 1, generator=generator)
            return chosen.repeat(2, 1).to(self._device)

        length = self.model.config.vq_config.num_patches**2
        codes = self._continue(self._embed(values), said.mask.repeat(2, 1), draw, self._embed_codes, length)
        return self.pictures(codes[: len(prompts)])

    @torch.no_grad()
    def pictures(self, codes: Tensor) -> list[Image]:
        """Decode codes, (N, T), into pictures by the VQ-VAE."""
        how = self.processor.image_processor
        mean, std = (torch.tensor(value, device=self._device) for value in (how.image_mean, how.image_std))
        pixels = (self.model.decode_image_tokens(codes).float() * std + mean) / how.rescale_factor
        return [fromarray(picture) for picture in pixels.clamp(0, 255).to("cpu", torch.uint8).numpy()]

    def represent(self, seen: Tensor) -> Tensor:
        """Representations z, (N, d), float32: the tower's last states, averaged over each picture's tokens."""
        framed = self.chat.pictures(len(seen), seen.shape[1]).values.to(self._device)
        states = self.tower(inputs_embeds=self._with_pictures(framed, seen)).last_hidden_state
        return states[:, -seen.shape[1] :].float().mean(1)

    def _with_some_dropped(self, prompts: Sequence[str], generator: torch.Generator) -> Ids:
        """The prompts, one in ten without its words."""
        said = self.chat.prompts(prompts)
        dropped = torch.rand(len(prompts), generator=generator) < _DROPPED
        return Ids(torch.where(dropped[:, None], self.chat.without_words(said.values), said.values), said.mask)

    def _code_logits(self, said: Ids, targets: Tensor) -> Tensor:
        """Logits of each code, (N · T, codes), float32, after the prompt and the codes before it."""
        codes = targets.to(self._device)
        embedded = torch.cat([self._embed(said.values.to(self._device)), self._embed_codes(codes[:, :-1])], 1)
        mask = torch.cat([said.mask, torch.ones_like(targets[:, :-1], device="cpu")], 1).to(self._device)
        states = self.tower(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return self.head(states[:, -codes.shape[1] :]).float().flatten(0, 1)

    @property
    def _device(self) -> torch.device:
        return self.model.device

    def _pixels(self, images: Sequence[Image]) -> Tensor:
        rgb = [image.convert("RGB") for image in images]
        pixels = self.processor.image_processor(rgb, return_tensors="pt")["pixel_values"]
        return pixels.to(self._device, self.model.dtype)

    def _embed(self, values: Tensor) -> Tensor:
        return input_embeddings(self.tower)(values)

    def _embed_codes(self, codes: Tensor) -> Tensor:
        return self.model.prepare_embeddings_for_image_generation(codes)

    def _with_pictures(self, values: Tensor, seen: Tensor) -> Tensor:
        """Embed ids, as (N, P, d), with what is seen in place of the pictures' placeholders."""
        embedded = self._embed(values)
        aligned = self.model.model.aligner(seen.to(self._device, self.model.dtype)).to(embedded.dtype)
        return embedded.masked_scatter((values == self.chat.image)[..., None], aligned)

    def _greedy(self, states: Tensor) -> Tensor:
        return self.model.lm_head(states).argmax(-1, keepdim=True)

    def _continue(
        self, embedded: Tensor, mask: Tensor, choose: Any, embed: Any, length: int, end: int | None = None
    ) -> Tensor:
        """Let the tower go on with ids, (N, ≤ length): from states (N, d) ``choose`` makes ids (N, 1).

        It stops early when every row has come to ``end``.
        """
        from transformers import DynamicCache

        mask, cache = mask.to(self._device), DynamicCache()
        chosen: list[Tensor] = []
        while len(chosen) < length:
            output = self.tower(inputs_embeds=embedded, attention_mask=mask, past_key_values=cache, use_cache=True)
            chosen.append(choose(output.last_hidden_state[:, -1]))
            if end is not None and (torch.cat(chosen, 1) == end).any(1).all():
                break
            embedded, mask = embed(chosen[-1]), torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        return torch.cat(chosen, 1)
