"""One shared transformer over unpaired silos, on NVIDIA FLARE.

The public names are imported at their first use: a FLARE job process imports this package and must stay light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "AnchorPin": "config.job",
    "JobConfig": "config.job",
    "SiteConfig": "config.site",
    "Method": "methods",
    "Modality": "modalities.base",
    "open_site": "sites.opening",
    "SiteSession": "training.session",
    "run_federation": "training.loop",
    "Trained": "results.trained",
    "load": "results.trained",
    "run": "training.notebook",
    "Recipe": "flare.recipe",
    "load_unified": "results.trained",
}
__all__ = [*_PUBLIC]  # pyrefly: ignore[unresolvable-dunder-all]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fedgram' has no attribute {name!r}")
    return getattr(import_module(f"fedgram.{_PUBLIC[name]}"), name)
