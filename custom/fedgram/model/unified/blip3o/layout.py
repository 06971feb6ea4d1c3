"""BLIP3o's published files: which tensors belong to which part, and reading one part by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fedgram.errors import BackboneError

VISION = "visual."
HEAD = "lm_head."
QUERIES = "model.latent_queries"
DENOISER = "model.dit.model."
CLIP = "model.gen_vision_tower.vision_tower.model."

_TOWER = ("model.embed_tokens.", "model.layers.", "model.norm.")
_UNUSED = ("model.vae.",)  # BLIP3o's training code of May 2025 stored one beside the diffusion transformer
_KNOWN = (*_TOWER, VISION, HEAD, QUERIES, DENOISER, CLIP, *_UNUSED)

_CLIP_TOWER = "eva-clip-E-14-plus"
_POOLING = "early_pool2d_"
_REMEDY = "name a folder in the layout of BLIP3o/BLIP3o-Model-4B or -8B"


@dataclass(frozen=True)
class Layout:
    """An inventory of a checkpoint folder.

    Attributes:
        folder: with ``config.json`` and safetensors.
        files: the file of each tensor, by the tensor's name.
        queries: how many latent query tokens stand in the prompt.
        pooling: side of the squares of patches that are averaged to one feature.
    """

    folder: Path
    files: Mapping[str, str]
    queries: int
    pooling: int

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Read the tensors of a part, by their names without the prefix; empty where it is not there.

        Raises:
            BackboneError: a file is missing or damaged.
        """
        found: dict[str, Tensor] = {}
        wanted = [name for name in self.files if name.startswith(prefix)]
        for file in sorted({self.files[name] for name in wanted}):
            try:
                with safe_open(self.folder / file, framework="pt") as tensors:
                    names = [name for name in wanted if self.files[name] == file]
                    found |= {name.removeprefix(prefix): tensors.get_tensor(name) for name in names}
            except (OSError, SafetensorError) as problem:
                raise BackboneError(f"cannot be read ({problem})", where=self.folder / file) from problem
        return found

    def numbers(self, prefix: str) -> int:
        """Count the numbers in a part's tensors, from the headers of the files.

        Raises:
            BackboneError: a file is missing or damaged.
        """
        count, wanted = 0, [name for name in self.files if name.startswith(prefix)]
        for file in {self.files[name] for name in wanted}:
            try:
                with safe_open(self.folder / file, framework="pt") as tensors:
                    names = [name for name in wanted if self.files[name] == file]
                    count += sum(prod(tensors.get_slice(name).get_shape()) for name in names)
            except (OSError, SafetensorError) as problem:
                raise BackboneError(f"cannot be read ({problem})", where=self.folder / file) from problem
        return count


def open_layout(folder: Path) -> Layout:
    """Look a checkpoint through before any of it is loaded.

    Raises:
        BackboneError: no such files, a tensor that no known part has, or settings that are not BLIP3o's.
    """
    config, files = _json(folder / "config.json"), _files(folder)
    unknown = sorted(name for name in files if not name.startswith(_KNOWN))
    if unknown:
        raise BackboneError(
            f"{len(unknown)} tensors of no known part, {unknown[0]!r} among them",
            where=folder,
            expected=", ".join(f"{prefix}…" for prefix in _KNOWN),
            remedy=_REMEDY,
        )
    pooling = str(config.get("gen_pooling", ""))
    if config.get("gen_vision_tower") != _CLIP_TOWER:
        _refuse(folder, config, "gen_vision_tower", _CLIP_TOWER)
    if not pooling.removeprefix(_POOLING).isdecimal() or not pooling.startswith(_POOLING):
        _refuse(folder, config, "gen_pooling", f"{_POOLING}<side>")
    if not isinstance(config.get("n_query"), int):
        _refuse(folder, config, "n_query", "a whole number")
    return Layout(folder, files, config["n_query"], int(pooling.removeprefix(_POOLING)))


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give a module, which may lie on the device ``meta``, exactly these weights.

    Raises:
        BackboneError: one is missing, unknown or of another shape.
    """
    own = module.state_dict()
    for problem, names in (("no", own.keys() - tensors.keys()), ("unknown", tensors.keys() - own.keys())):
        if names:
            raise BackboneError(
                f"{problem} weights for {len(names)} names, {min(names)!r} among them", where=where, remedy=_REMEDY
            )
    for name, weight in own.items():
        if weight.shape != tensors[name].shape:
            raise BackboneError(
                f"{name!r} of shape {tuple(tensors[name].shape)}", where=where, expected=tuple(weight.shape)
            )
    module.load_state_dict(dict(tensors), assign=True)


def _refuse(folder: Path, config: Mapping[str, Any], key: str, expected: str) -> None:
    raise BackboneError(
        f"{key} {config.get(key)!r}", where=folder / "config.json", expected=expected, remedy=_REMEDY
    )


def _files(folder: Path) -> dict[str, str]:
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        return dict(_json(index).get("weight_map", {}))
    try:
        with safe_open(whole, framework="pt") as tensors:
            return dict.fromkeys(tensors.keys(), whole.name)
    except (OSError, SafetensorError) as problem:
        raise BackboneError("no weights in safetensors", where=folder, remedy=_REMEDY) from problem


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BackboneError(f"cannot be read ({type(problem).__name__})", where=path, remedy=_REMEDY) from problem
