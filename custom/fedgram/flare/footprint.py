"""The processes that a simulation takes, and about how much memory."""

from __future__ import annotations

from collections.abc import Mapping

from rich.filesize import decimal

from fedgram.config.job import JobConfig
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.errors import BackboneError
from fedgram.model.backbone import weight_bytes

# Bytes, measured on Linux with torch on the CPU in four sites of jobs/geodora; shared pages are counted once.
SIMULATOR, EXECUTOR, WORKER = 1100 * 10**6, 220 * 10**6, 600 * 10**6
_SIMULATOR = 4  # this command, the simulator, and two that watch it


def processes(sites: int) -> int:
    """The number of processes: the simulator's, and of each site one that speaks FLARE and one that trains."""
    return _SIMULATOR + 2 * sites


def memory(sites: Mapping[str, SiteConfig], job: JobConfig) -> int:
    """Bytes that all processes take together, without what a batch needs."""
    total = SIMULATOR + len(sites) * (EXECUTOR + WORKER)
    for config in sites.values():
        if config.modality != UNIFIED:
            try:
                total += weight_bytes(job.backbone, config.backbones, config.precision)
            except BackboneError:  # said when the site is opened, with what to do
                continue
    return total


def told(sites: Mapping[str, SiteConfig], job: JobConfig) -> str:
    """Say both in a few words."""
    return f"{processes(len(sites))} processes, about {decimal(memory(sites, job))} of memory"
