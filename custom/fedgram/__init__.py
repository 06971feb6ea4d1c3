"""One shared transformer over unpaired silos, on NVIDIA FLARE.

``fedgram.load(folder, site=…)`` opens what a run left; see :func:`fedgram.results.trained.load`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: a FLARE job process imports this package and must stay light."""
    if name == "load":
        return import_module("fedgram.results.trained").load
    raise AttributeError(f"module 'fedgram' has no attribute {name!r}")
