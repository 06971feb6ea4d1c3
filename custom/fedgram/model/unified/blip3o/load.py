"""Reading a BLIP3o checkpoint folder, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from fedgram.config.job import BackboneConfig
from fedgram.config.site import Precision
from fedgram.errors import BackboneError
from fedgram.model.backbone import load_backbone
from fedgram.model.site_model import input_embeddings
from fedgram.model.unified.blip3o.clip import EvaClip, eva_clip
from fedgram.model.unified.blip3o.decoder import Decoder, diffusion_decoder
from fedgram.model.unified.blip3o.head import PictureHead, picture_head
from fedgram.model.unified.blip3o.layout import CLIP, DENOISER, HEAD, QUERIES, VISION, Layout, fill, open_layout
from fedgram.model.unified.blip3o.model import CLIP_WEIGHTS, Blip3o
from fedgram.pretrained import load_model, load_part

_CLIP_FILE = "pytorch_model.bin"
_CLIP_PARTS = ("cls_token", "pos_embed", "patch_embed.", "blocks.")
_WRAPPERS = ("model", "module", "state_dict")


def load_blip3o(
    config: BackboneConfig,
    folders: Mapping[str, str],
    precision: Precision = "fp32",
    device: str = "cpu",
    *,
    decoder: Decoder | None = None,
) -> Blip3o:
    """Load the model of a folder in the layout of BLIP3o/BLIP3o-Model-4B and -8B, frozen.

    Args:
        config: its name, and how many layers of the tower to keep.
        folders: the site's own, by name: the checkpoint's, and ``jiuhai/eva_clip_vision_tower`` where the
            checkpoint lacks EVA-CLIP. Without either only ``targets`` fails.
        precision, device: of the tower; the other parts are in float32 with ``fp32``, else in bf16.
        decoder: in place of the checkpoint's own, which is loaded when the first picture is made.

    Raises:
        BackboneError: a part is missing or does not fit, or diffusers is not installed.
    """
    if config.name not in folders:
        raise BackboneError(
            "BLIP3o is read from a folder of the site's own",
            where=f"backbone {config.name!r}",
            remedy=f"fetch the checkpoint, and name its folder under [backbones] as {config.name!r}",
        )
    folder = Path(folders[config.name])
    found, where = open_layout(folder), f"BLIP3o in {folder}"
    tower = load_backbone(config, folders, precision, device)
    table = input_embeddings(tower).weight
    to: dict[str, Any] = {
        "dtype": torch.float32 if precision == "fp32" else torch.bfloat16,
        "device": table.device,
    }
    settings = load_part(AutoConfig, str(folder), where=where, error=BackboneError)
    targets = _clip(found, folders.get(CLIP_WEIGHTS))
    return Blip3o(
        tower=tower,
        answers=_answers(found, table, settings.tie_word_embeddings).to(**to),
        head=_head(found, where).to(**to),
        vision=_vision(folder, settings.vision_config, where, to["dtype"]).to(table.device),
        clip=None if targets is None else targets.to(**to),
        tokenizer=load_part(AutoTokenizer, str(folder), where=where, error=BackboneError),
        decoder=cache(partial(diffusion_decoder, folder, **to)) if decoder is None else lambda: decoder,
    )


def _vision(folder: Path, settings: Any, where: str, dtype: torch.dtype) -> nn.Module:
    names = {rf"^{VISION}": ""}
    kind = Qwen2_5_VisionTransformerPretrainedModel
    return load_model(
        kind, str(folder), settings, where=where, error=BackboneError, key_mapping=names, dtype=dtype
    )


def _answers(found: Layout, table: Tensor, tied: bool) -> nn.Linear:
    """The head over the vocabulary; the table of embeddings where that is tied to it and not stored twice (4B)."""
    weights = found.part(HEAD) or ({"weight": table.detach()} if tied else {})
    with torch.device("meta"):
        linear = nn.Linear(table.shape[1], table.shape[0], bias=False)
    fill(linear, weights, str(found.folder))
    return linear.requires_grad_(False)


def _head(found: Layout, where: str) -> PictureHead:
    queries = found.part(QUERIES).get("")
    if queries is None or queries.shape[1:2] != (found.queries,):
        raise BackboneError(
            f"query tokens of shape {None if queries is None else tuple(queries.shape)}",
            where=where,
            expected=f"(1, {found.queries}, d), as n_query in config.json says",
        )
    return picture_head(queries, found.part(DENOISER), where)


def _clip(found: Layout, folder: str | None) -> EvaClip | None:
    tensors, where = found.part(CLIP), str(found.folder)
    if not tensors and folder is not None:
        tensors, where = _pickled(Path(folder).expanduser() / _CLIP_FILE), folder
    return eva_clip(tensors, found.pooling, where) if tensors else None


def _pickled(path: Path) -> dict[str, Tensor]:
    """Read the tower from a file of EVA-CLIP, without classifier and last norm, which BLIP3o does not use."""
    try:
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch passes on whatever it stumbles over in a damaged pickle
        raise BackboneError(
            f"cannot be read ({type(problem).__name__})",
            where=path,
            remedy=f"fetch {CLIP_WEIGHTS}, and name its folder under [backbones]",
        ) from problem
    for wrapper in _WRAPPERS:
        state = state.get(wrapper, state)
    return {name: tensor for name, tensor in state.items() if name.startswith(_CLIP_PARTS)}
