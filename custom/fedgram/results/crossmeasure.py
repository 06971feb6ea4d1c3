"""Questions between the test samples of sites whose results lie in one place, asked of home and of together.

A site is opened and its data are read once; its model of training alone is lent to it for as long as it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from sklearn.pipeline import Pipeline

from fedgram.results import crossmodal
from fedgram.results.crossfloors import (
    RetrievalFloors,
    TransferFloors,
    frozen_site,
    own_anchors,
    retrieval_floors,
    site_floors,
)
from fedgram.results.crossmodal import Comparison, Embedded, Transfer
from fedgram.results.owntest import OwnTest, own_test
from fedgram.sites.kept import lent, read_trained
from fedgram.sites.opening import reopen_site
from fedgram.sites.single import SingleSite


@dataclass(frozen=True)
class Asked:
    """The test samples of sites as one model of each represents them, and what they find at each other.

    Attributes:
        tested: the test samples, by site.
        comparisons: retrieval between sites of different modalities; between all where there is one modality.
        transfers: naming of concepts without labels, by each site that has some.
    """

    tested: list[Embedded]
    comparisons: list[Comparison]
    transfers: list[Transfer]


@dataclass(frozen=True)
class Measured:
    """All that is known of sites and between them; floors stand in the order of what ``together`` has."""

    own: list[OwnTest]
    together: Asked
    home: Asked
    retrieval_floors: list[RetrievalFloors]
    transfer_floors: list[TransferFloors]


def measure(folders: Sequence[Path]) -> Measured:
    """Ask the sites that have a result.

    Args:
        folders: result folders of sites; beside each may lie ``alone``, the site's model of training alone.
    """
    sites = {folder: reopen_site(folder) for folder in folders if (folder / "site.json").is_file()}
    floors = {site.name: site_floors(site) for site in sites.values()}
    own = [own_test(site, folder, floors[site.name]) for folder, site in sites.items()]
    together = [_represented(site, [*sites.values()]) for site in sites.values()]
    home = []
    for folder, site in sites.items():
        alone = folder.parent / "alone"
        if (alone / "site.json").is_file():
            with lent(site, read_trained(alone), alone):
                home.append(_represented(site, [*sites.values()]))
    asked = _asked(together)
    return Measured([test for test in own if test is not None], asked, _asked(home), *_floors(asked, floors))


def _represented(site: SingleSite, sites: Sequence[SingleSite]) -> tuple[Embedded, Embedded | None]:
    """The test samples of a site, and the training samples where another site can be taught by them."""
    known = crossmodal.trained_concepts(site)
    wanted = any(crossmodal.unseen(other, known) for other in sites if other is not site)
    taught = crossmodal.embed(site, site.samples("train")) if wanted else None
    return crossmodal.embed(site, site.samples("test")), taught


def _asked(represented: Sequence[tuple[Embedded, Embedded | None]]) -> Asked:
    tested = [part for part, _ in represented]
    across = len({kind(part) for part in tested}) > 1
    pairs = [(a, b) for a, b in permutations(tested, 2) if not across or kind(a) != kind(b)]
    compared = (crossmodal.compare(a, b) for a, b in pairs)
    taught = [(a, b) for a in tested for _, b in represented if b is not None and a.site is not b.site]
    return Asked(
        tested=tested,
        comparisons=[c for c in compared if c.queries],  # without a concept in common there is nothing to find
        transfers=[transfer for a, b in taught for transfer in crossmodal.transfers(a, b)],
    )


def kind(part: Embedded) -> str:
    """The modality of some samples."""
    return part.site.modality.name


def _floors(
    asked: Asked, floors: Mapping[str, Mapping[str, Pipeline]]
) -> tuple[list[RetrievalFloors], list[TransferFloors]]:
    parts = {part.site.name: part for part in asked.tested}
    sites = {name: frozen_site(part.site, part.samples, floors[name]) for name, part in parts.items()}
    known = {t.teacher: crossmodal.trained_concepts(sites[t.teacher].site) for t in asked.transfers}
    return (
        [retrieval_floors(sites[c.query], sites[c.gallery]) for c in asked.comparisons],
        [own_anchors(sites[t.query], t.teacher, t.concept, known[t.teacher]) for t in asked.transfers],
    )
