"""Sites that join a run which has begun: newcomers, and after a resume all of them, who may have changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fedgram.config.job import JobConfig
from fedgram.errors import UpdateRejected
from fedgram.records import SiteIntroduction, below
from fedgram.training import contracts
from fedgram.training.server import ServerState, same_model


def forget(state: ServerState) -> ServerState:
    """A state in which no site has introduced itself."""
    return replace(state, modalities={}, groups={})


def admit(
    state: ServerState, replies: Iterable[SiteIntroduction], job: JobConfig
) -> tuple[ServerState, dict[str, str]]:
    """Take in the sites that run this version on these anchors with the model of this run.

    A site is in the groups that the run has and whose shapes are its own; there is no new group.

    Returns:
        The state with them, and the reason by site for every one that may not take part yet.
    """
    modalities, groups = dict(state.modalities), {site: dict(own) for site, own in state.groups.items()}
    privacy = {site: dict(own) for site, own in state.privacy.items()}
    rejected: dict[str, str] = {}
    for reply in sorted(replies, key=lambda r: r.site):
        try:
            contracts.check_introduction(reply, job)
            if not same_model(reply.spec, state.spec):
                raise UpdateRejected("another shared transformer", where=reply.site, expected="that of this run")
            contracts.check_base_magnitudes(reply, state.spec, job)
        except UpdateRejected as error:
            rejected[reply.site] = str(error)
            continue
        modalities[reply.site] = reply.modality
        privacy.pop(reply.site, None)
        privacy |= {reply.site: dict(reply.privacy)} if reply.privacy else {}
        if own := _groups_of(reply, state):
            groups[reply.site] = own
    return replace(state, modalities=modalities, groups=groups, privacy=privacy), rejected


def _groups_of(reply: SiteIntroduction, state: ServerState) -> dict[str, str]:
    found = {}
    for part, group in sorted(reply.groups.items()):
        theirs = {name: tuple(u.shape) for name, u in below(f"{group}/", state.state.shared).items()}
        if theirs and theirs == {k: tuple(s) for k, s in reply.shared_shapes.items() if k.startswith(f"{part}/")}:
            found[part] = group
    return found
