"""The frozen diffusion decoder beside a BLIP3o checkpoint, which makes pixels from picture features.

It is Emu2's (Sun et al. 2024): SDXL's U-Net, which attends to the features where SDXL attends to words, and SDXL's
autoencoder. The folder also holds a pipeline as code of its own; that is never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from fedgram.errors import BackboneError
from fedgram.model.unified.blip3o.flow import draw_noise

FOLDER = "diffusion-decoder"
_STEPS = 50
_GUIDANCE = 3.0


class Decoder(Protocol):
    """A maker of one picture from each sample's features."""

    def __call__(self, features: Tensor, empty: Tensor, generator: torch.Generator) -> list[Image.Image]:
        """Decode features into pictures.

        Args:
            features: (N, T, c), float32.
            empty: what an empty prompt gives, (1, T, c), float32, for guidance.
            generator: of the noise.
        """
        ...


class DiffusionDecoder(nn.Module):
    """Emu2's decoder, put together from the parts of diffusers.

    Args:
        unet, vae, scheduler: ``UNet2DConditionModel``, ``AutoencoderKL`` and ``EulerDiscreteScheduler``.
    """

    def __init__(self, unet: Any, vae: Any, scheduler: Any):
        super().__init__()
        self.unet, self.vae, self._scheduler = unet, vae, scheduler

    @torch.no_grad()
    def forward(self, features: Tensor, empty: Tensor, generator: torch.Generator) -> list[Image.Image]:
        """Decode features into pictures, as :class:`Decoder` says."""
        return [self._paint(one[None], empty, generator) for one in features]

    def _paint(self, features: Tensor, empty: Tensor, generator: torch.Generator) -> Image.Image:
        dtype, device = self.unet.dtype, self.unet.device
        conditions = torch.cat([empty, features]).to(device, dtype)
        side: int = self.unet.config.sample_size
        pixels = side * 2 ** (len(self.vae.config.block_out_channels) - 1)
        size = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]], device=device)  # of SDXL: no crop
        added = {"time_ids": size.expand(2, -1), "text_embeds": conditions.mean(1)}
        self._scheduler.set_timesteps(_STEPS, device=device)
        x = draw_noise((1, self.unet.config.in_channels, side, side), generator).to(device, dtype)
        x = x * self._scheduler.init_noise_sigma
        for time in self._scheduler.timesteps:
            both = self._scheduler.scale_model_input(x.expand(2, -1, -1, -1), time)
            noise = self.unet(both, time, encoder_hidden_states=conditions, added_cond_kwargs=added).sample
            without, given = noise.chunk(2)
            x = self._scheduler.step(without + _GUIDANCE * (given - without), time, x).prev_sample
        painted = self.vae.decode(x.to(self.vae.dtype) / self.vae.config.scaling_factor).sample[0].float()
        values = ((painted / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def diffusion_decoder(checkpoint: Path, dtype: torch.dtype, device: torch.device) -> DiffusionDecoder:
    """Load the decoder of a checkpoint: ``diffusion-decoder`` with ``unet``, ``vae`` and ``scheduler``.

    Raises:
        BackboneError: diffusers is not installed, or the checkpoint does not hold these parts.
    """
    folder = checkpoint / FOLDER
    if not folder.is_dir():
        raise BackboneError(
            "no decoder from features to pixels",
            where=checkpoint,
            expected=f"a folder {FOLDER!r}",
            remedy="fetch the whole checkpoint, or load the model with a decoder of your own",
        )
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    except ImportError as problem:
        raise BackboneError(
            "diffusers is not installed", where=folder, remedy="pip install 'fedgram[diffusion]'"
        ) from problem
    options: dict[str, Any] = {"use_safetensors": True, "torch_dtype": dtype}
    try:
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", variant=_variant(folder), **options)
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", variant=_variant(folder), **options)
        scheduler = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        raise BackboneError(
            f"cannot be loaded ({type(problem).__name__}: {str(problem).strip().splitlines()[0]})",
            where=folder,
            expected="unet, vae and scheduler as diffusers writes them",
        ) from problem
    return DiffusionDecoder(unet, vae, scheduler).requires_grad_(False).eval().to(device)


def _variant(folder: Path) -> str | None:
    """The variant of the files: BLIP3o publishes ``….bf16.safetensors``."""
    return "bf16" if any(folder.glob("unet/*.bf16.*")) else None
