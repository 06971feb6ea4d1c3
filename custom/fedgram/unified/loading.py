"""The unified model that a job names: which class of ours opens which checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedgram.config import BackboneConfig
from fedgram.errors import BackboneError
from fedgram.model.backbone import checkpoint_settings
from fedgram.sitefile import Precision
from fedgram.unified.base import UnifiedModel
from fedgram.unified.janus import load_janus

_KINDS: Mapping[str, Callable[..., UnifiedModel]] = {"janus": load_janus}  # by model_type of config.json


def load_unified(
    config: BackboneConfig, folders: Mapping[str, str], precision: Precision = "fp32", device: str = "cpu"
) -> UnifiedModel:
    """Load a frozen unified model, by hub id, packaged name or the site's own folder.

    Raises:
        BackboneError: it cannot be loaded, or is of no kind that is known here.
    """
    kind = checkpoint_settings(config, folders)[1].model_type
    if kind not in _KINDS:
        raise BackboneError(
            f"a model of type {kind!r}",
            where=f"backbone {config.name!r}",
            expected=f"a unified model: {', '.join(_KINDS)}",
        )
    return _KINDS[kind](config, folders, precision, device)
