"""GeoLoRA and GeoDoRA (Eklund 2026): A frozen and seeded, B averaged, the geometry of the anchors held together.

Kept: eq. (1) to (6), each in :mod:`fedgram.core`. Changed: the defaults of :class:`~fedgram.config.job.JobConfig`,
which say where they differ from the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedgram.methods.base import Method, Settings


class Geo(Method):
    """B is averaged, and m where the job says so; GeoDoRA with ``adapter.dora``, else GeoLoRA."""

    name = "geo"
    title = "GeoLoRA, GeoDoRA"
    source = "Eklund 2026"
    shares = "B (and m), Ḡ"
    settings: ClassVar[Settings] = {}
    variants: ClassVar[Mapping[str, Settings]] = {"geodora": {}, "geolora": {"adapter": {"dora": False}}}
