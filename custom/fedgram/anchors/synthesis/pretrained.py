"""Text and image anchors from pretrained models: a causal language model, a diffusion pipeline."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from fedgram.anchors.synthesis import Generator
from fedgram.anchors.synthesis.prompts import Prompts
from fedgram.errors import AnchorError
from fedgram.modalities.hf import hash_weights
from fedgram.pretrained import load_part

_NEW_TOKENS = 48
_TRIES = 5  # a model may answer with nothing


def language_model(name: str, prompts: Prompts) -> Generator:
    """Make a generator of texts from a causal language model, asked in its chat format if it has one.

    Args:
        name: hub id or folder; code from the hub is never run.

    Raises:
        AnchorError: no such model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = load_part(AutoTokenizer, name, where=name, error=AnchorError)
    model = load_part(AutoModelForCausalLM, name, where=name, error=AnchorError).eval()
    identity = _identity(name, [model])
    model = model.to(_device())

    def answer(prompt: str, seed: int) -> str:
        if tokenizer.chat_template:
            message = [{"role": "user", "content": prompt}]
            prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        given = tokenizer(prompt, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
        given = {k: v.to(model.device) for k, v in given.items() if k in ("input_ids", "attention_mask")}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            output = model.generate(
                **given,
                do_sample=True,
                temperature=0.8,
                top_p=0.95,
                max_new_tokens=_NEW_TOKENS,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
            )
        text = tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return whole_sentences(text)

    def draw(concept: str, seeds: Sequence[int]) -> list[bytes]:
        asked = prompts.of(concept)
        texts = [
            next(filter(None, (answer(asked[i % len(asked)], seed + t) for t in range(_TRIES))), "")
            for i, seed in enumerate(seeds)
        ]
        if not all(texts):
            raise AnchorError("the model answers with nothing", where=concept, remedy="another prompt or model")
        return [f"{text}\n".encode() for text in texts]

    made = {"generator": "causal language model", **identity, "prompts": list(prompts.templates)}
    return Generator("text", ".txt", made, draw)


def whole_sentences(text: str) -> str:
    """The text as one line, up to its last end of a sentence if there is one: sampling stops anywhere."""
    line = " ".join(text.split())
    end = max(line.rfind(mark) for mark in ".!?")
    return line[: end + 1] if end > 0 else line


def diffusion_pipeline(name: str, prompts: Prompts, steps: int) -> Generator:
    """Make a generator of images from a text-to-image pipeline of diffusers, at the pipeline's own size.

    Args:
        name: hub id or folder, with safetensors weights.
        steps: of denoising.

    Raises:
        AnchorError: diffusers is not installed, or no such pipeline.
    """
    try:
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    except ImportError:
        raise AnchorError(
            "diffusers is not installed", where="anchors synthesise", remedy="pip install 'fedgram[diffusion]'"
        ) from None
    pipeline = load_part(DiffusionPipeline, name, where=name, error=AnchorError, use_safetensors=True)
    identity = _identity(name, [p for _, p in sorted(pipeline.components.items()) if isinstance(p, nn.Module)])
    pipeline = pipeline.to(_device())
    pipeline.set_progress_bar_config(disable=True)

    def draw(concept: str, seeds: Sequence[int]) -> list[bytes]:
        asked = prompts.of(concept)
        return [paint(asked[i % len(asked)], seed) for i, seed in enumerate(seeds)]

    def paint(prompt: str, seed: int) -> bytes:
        noise = torch.Generator().manual_seed(seed)
        output = pipeline(prompt, num_inference_steps=steps, generator=noise)
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise AnchorError("the pipeline's safety checker blacked out an image", where=prompt)
        file = io.BytesIO()
        output.images[0].convert("RGB").save(file, "PNG")
        return file.getvalue()

    made = {"generator": "diffusion pipeline", **identity, "prompts": list(prompts.templates), "steps": steps}
    return Generator("image", ".png", made, draw)


def _identity(name: str, parts: Sequence[nn.Module]) -> dict[str, str]:
    """The model's name in the public manifest: its hub id or the last part of its folder, and a hash."""
    public = Path(name).resolve().name if Path(name).expanduser().exists() else name
    return {"model": public, "weights": sha256("".join(map(hash_weights, parts)).encode()).hexdigest()}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
