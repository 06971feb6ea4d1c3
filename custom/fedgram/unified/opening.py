"""A site of either kind, as its own file says."""

from __future__ import annotations

from fedgram.config import JobConfig
from fedgram.sitefile import UNIFIED, SiteConfig
from fedgram.training.participant import Participant
from fedgram.training.site import open_site


def open_any_site(name: str, config: SiteConfig, job: JobConfig) -> Participant:
    """Open a site of one modality, or one with a unified model, whose parts are imported only then.

    Raises:
        FedgramError: see :func:`~fedgram.training.site.open_site` and
            :func:`~fedgram.unified.assemble.open_unified_site`.
    """
    if config.modality != UNIFIED:
        return open_site(name, config, job)
    from fedgram.unified.assemble import open_unified_site

    return open_unified_site(name, config, job)
