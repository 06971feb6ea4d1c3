"""The checks of what a site sends in a masked sum, against what was asked: the last gate of the site itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from fedgram.config.job import JobConfig
from fedgram.core.masks import KEY_BYTES, SEED_BYTES
from fedgram.errors import UpdateRejected
from fedgram.records import GlobalState
from fedgram.training.masked.messages import (
    CONFIRM,
    KEYS,
    MASKED,
    REVEAL,
    SHARES,
    Confirmation,
    MaskedUpdate,
    RevealedShares,
    SiteKeys,
    SiteShares,
    SumCall,
    read_card,
    unhex,
)
from fedgram.training.masked.shapes import shapes_of

KINDS = {
    KEYS: SiteKeys,
    SHARES: SiteShares,
    MASKED: MaskedUpdate,
    CONFIRM: Confirmation,
    REVEAL: RevealedShares,
}
ENCRYPTED = 12 + SEED_BYTES + KEY_BYTES + 16  # bytes of a share on its way: nonce, both shares, tag
_CERTIFICATE = re.compile(r"(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,8192}-----END CERTIFICATE-----\n)?")
_LONGEST_SIGNATURE = 1024


def check_answer(reply: Any, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    """Raise UpdateRejected unless an answer has the form, the names and the sizes that the call asks for.

    Args:
        state: that the sum's round begins with; None before the first.
    """
    if reply.round != call.round or (call.cards and reply.context != call.context):
        raise UpdateRejected("an answer to another sum", where=reply.site)
    _CHECKS[type(reply)](reply, call, job, state)


def _check_keys(reply: SiteKeys, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    read_card(reply.card, reply.site, call, job.fingerprint(), job.anchors.slots)
    _check_signature(reply.site, reply.signature)
    if not _CERTIFICATE.fullmatch(reply.certificate):
        raise UpdateRejected("a text in the place of a certificate", where=reply.site)


def _check_shares(reply: SiteShares, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    _check_digits(reply.site, reply.shares, call.cards, ENCRYPTED)
    _check_digits(reply.site, reply.prints, call.cards, 64)
    unhex(reply.seed_print, reply.site, 32)


def _check_masked(reply: MaskedUpdate, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    wanted = {label: (shape, torch.int64) for label, shape in shapes_of(job, state).items()}
    if {label: (tuple(v.shape), v.dtype) for label, v in reply.sums.items()} != wanted:
        raise UpdateRejected("masked values of other names, shapes or types", where=reply.site)
    if reply.restarts < 0:
        raise UpdateRejected(f"{reply.restarts} restarts", where=reply.site, expected="0 or more")
    _check_signature(reply.site, reply.mark)


def _check_confirmation(reply: Confirmation, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    _check_signature(reply.site, reply.signature)


def _check_revealed(reply: RevealedShares, call: SumCall, job: JobConfig, state: GlobalState | None) -> None:
    survivors = set(call.survivors)
    _check_digits(reply.site, reply.seeds, reply.seeds.keys() & survivors, SEED_BYTES)
    _check_digits(reply.site, reply.keys, reply.keys.keys() & (set(call.sharers) - survivors), KEY_BYTES)


def _check_digits(site: str, given: Mapping[str, str], names: Iterable[str], size: int) -> None:
    if given.keys() != set(names):
        raise UpdateRejected("secrets for others than take part", where=site)
    for digits in given.values():
        unhex(digits, site, size)


def _check_signature(site: str, digits: str) -> None:
    if len(unhex(digits, site)) > _LONGEST_SIGNATURE:
        raise UpdateRejected(
            "a signature that is none", where=site, expected=f"{_LONGEST_SIGNATURE} bytes at most"
        )


_CHECKS: Mapping[type, Callable[..., None]] = {
    SiteKeys: _check_keys,
    SiteShares: _check_shares,
    MaskedUpdate: _check_masked,
    Confirmation: _check_confirmation,
    RevealedShares: _check_revealed,
}
