"""Loading of the unified model that a job names, by the class that can open its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedgram.config.job import BackboneConfig
from fedgram.config.site import Precision
from fedgram.errors import BackboneError
from fedgram.model.backbone import checkpoint_settings
from fedgram.model.unified.base import UnifiedModel


def _janus(*arguments: Any) -> UnifiedModel:
    from fedgram.model.unified.janus import load_janus

    return load_janus(*arguments)


def _blip3o(*arguments: Any) -> UnifiedModel:
    from fedgram.model.unified.blip3o.load import load_blip3o

    return load_blip3o(*arguments)


# By model_type of config.json. What one of them needs (diffusers, say) is not imported for another.
_KINDS: Mapping[str, Callable[..., UnifiedModel]] = {
    "janus": _janus,
    "blip3o_qwen": _blip3o,
    "blip3o_qwen_inference": _blip3o,
}


def load_unified(
    config: BackboneConfig, folders: Mapping[str, str], precision: Precision = "fp32", device: str = "cpu"
) -> UnifiedModel:
    """Load a frozen unified model, by hub id, packaged name or the site's own folder.

    Raises:
        BackboneError: it cannot be loaded, or is of no kind that is known here.
    """
    return _KINDS[kind_of(config, folders)](config, folders, precision, device)


def kind_of(config: BackboneConfig, folders: Mapping[str, str]) -> str:
    """The type of the unified model that a job names.

    Raises:
        BackboneError: it cannot be found, or is of no kind that is known here.
    """
    kind = checkpoint_settings(config, folders)[1].model_type
    if kind not in _KINDS:
        raise BackboneError(
            f"a model of type {kind!r}",
            where=f"backbone {config.name!r}",
            expected=f"a unified model: {', '.join(_KINDS)}",
        )
    return kind
