"""The modalities of a site's data. A new one is one module and one name in a site file.

Importing this package loads no encoder library: a modality's module is imported when it is asked for.
"""

from __future__ import annotations

from fedgram.config.strict import imported
from fedgram.errors import ConfigError
from fedgram.modalities.base import Modality

_MODALITIES = {
    "image": "fedgram.modalities.image:MODALITY",
    "text": "fedgram.modalities.text:MODALITY",
    "genomics": "fedgram.modalities.genomics:MODALITY",
    "tabular": "fedgram.modalities.tabular:MODALITY",
    "audio": "fedgram.modalities.audio:MODALITY",
}


def load(name: str) -> Modality:
    """Find a modality by its name, or at ``package.module:attribute``.

    Raises:
        ConfigError: neither a known name nor something that can be imported.
    """
    path = _MODALITIES.get(name, name)
    if not path.partition(":")[2]:
        raise ConfigError(
            f"unknown modality {name!r}",
            where="modality",
            expected=f"{', '.join(_MODALITIES)}, or package.module:attribute",
        )
    return imported(path, "modality")
