"""The doctor: checks at a site or the server before a job arrives, which only read and touch no running process.

Nothing registers with the server and nothing is started in FLARE's name: `nvflare preflight-check` on a kit that
runs would shut the live client out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedgram.checks.doctor.connection import certificates, server_address
from fedgram.checks.doctor.job import job
from fedgram.checks.doctor.kit import packages, place, read_kit
from fedgram.checks.doctor.policy import allow_list, log_streaming, privacy_gate, rights
from fedgram.checks.doctor.server import gate, ports, rejoin, server_file, storage
from fedgram.checks.doctor.visit import Check, Finding, Visit, run

SERVER: tuple[Check, ...] = (
    packages,
    place,
    certificates,
    job,
    allow_list,
    rights,
    server_file,
    storage,
    rejoin,
    gate,
    ports,
)


def site_checks() -> tuple[Check, ...]:
    """The checks at a site, in order; torch and transformers are loaded here and not before."""
    from fedgram.checks.doctor import bound, site

    return (
        packages,
        place,
        certificates,
        server_address,
        job,
        site.site_file,
        allow_list,
        rights,
        privacy_gate,
        log_streaming,
        site.data,
        site.anchors,
        site.held_out_anchors,
        bound.privacy,
        site.tokenizer,
        site.device,
        site.memory,
        site.backbone,
        site.disk,
    )


def visit(folder: Path, job_folder: Path | None = None) -> Visit:
    """Look at a startup kit, and at the folder of a job that it is to run.

    Raises:
        ConfigError: no startup kit of a site or the server there.
    """
    return Visit(read_kit(folder), job_folder)


def examine(visit: Visit) -> Iterator[tuple[str, Finding]]:
    """Run every check that there is for this participant, and yield its name with each finding."""
    return run(SERVER if visit.kit.side == "server" else site_checks(), visit)
