"""The ``demo:`` names of a site file, replaced by the files that they stand for: once, when a site is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fedgram.config.site import SiteConfig
from fedgram.demo.files import embedded

PREFIX = "demo:"


def locate(name: str, cache: Path) -> Path:
    """The file or folder of embedded demo data; all that is no ``demo:…`` name is a path.

    Args:
        cache: the folder in which archives are unpacked, once.

    Raises:
        DataError: no such demo data.
    """
    return embedded(name, cache) if name.startswith(PREFIX) else Path(name)


def resolve(config: SiteConfig) -> SiteConfig:
    """A site's settings with a path wherever the site file has a ``demo:`` name.

    Raises:
        DataError: no such demo data.
    """

    def there(name: str) -> str:
        return str(locate(name, Path(config.cache)))

    def there_if_named(name: str | None) -> str | None:
        return None if name is None else there(name)

    bridge, unified = config.bridge, config.unified
    if bridge is not None:
        bridge = replace(bridge, data=there(bridge.data))
    if unified is not None:
        unified = replace(
            unified,
            questions=there_if_named(unified.questions),
            captions=there_if_named(unified.captions),
            prompts=there_if_named(unified.prompts),
            rehearsal=there_if_named(unified.rehearsal),
        )
    return replace(
        config,
        data=there(config.data) if config.data else "",
        anchors=there(config.anchors),
        heldout=there_if_named(config.heldout),
        bridge=bridge,
        unified=unified,
    )
