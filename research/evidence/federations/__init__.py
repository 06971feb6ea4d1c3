"""Federations on which methods are compared, real and made, all of them of unpaired silos.

Each module has ``build(folder, *, sites, alpha, seed)``. It writes ordinary site files and anchor sets below
``folder``, once, and describes them; what it writes follows from its arguments, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedgram.config.job import AnchorPin, BackboneConfig
from fedgram.config.site import SiteConfig

NAMES = ("carnivora", "digits", "emoji", "pathogens", "synthetic")  # modules with ``build``
EVEN = float("inf")  # α of a split without any skew


@dataclass(frozen=True)
class Federation:
    """A federation: the part of its job that depends on it, and the site files.

    Attributes:
        name: of the benchmark, with what was broken on purpose.
        sites: by name, ready for :func:`fedgram.sites.opening.open_site`. A site's name begins with the name of
            its modality in the anchor manifests.
        anchors: the set that trains; its folder is in every site's file.
        heldout: a disjoint set for evaluation only.
        backbone: the shared transformer.
    """

    name: str
    sites: Mapping[str, SiteConfig]
    anchors: AnchorPin
    heldout: AnchorPin
    backbone: BackboneConfig

    def of_kind(self, kind: str) -> list[str]:
        """The names of the sites of a modality, in order."""
        return [name for name in self.sites if kind_of(name) == kind]


def kind_of(site: str) -> str:
    """The modality of a site, by its name in anchor manifests."""
    return site.rpartition("-")[0]
