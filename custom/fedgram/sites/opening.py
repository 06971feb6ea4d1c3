"""A site of either kind, as its own file says."""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.sites.base import Participant
from fedgram.sites.single import open_site


def open_any_site(name: str, config: SiteConfig, job: JobConfig) -> Participant:
    """Open a site of one modality, or one with a unified model, whose parts are imported only then.

    Raises:
        FedgramError: see :func:`~fedgram.sites.single.open_site` and
            :func:`~fedgram.sites.unified_opening.open_unified_site`.
    """
    if config.modality != UNIFIED:
        return open_site(name, config, job)
    from fedgram.sites.unified_opening import open_unified_site

    return open_unified_site(name, config, job)
