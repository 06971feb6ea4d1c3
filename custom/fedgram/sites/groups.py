"""Groups of sites of one kind, seen from a site: what it shares within them, and from where that starts.

In a group W = W₀ + U: every member draws the same W₀, which never leaves it, and U is the running mean of their
changes, which the server keeps. For the head likewise.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import sha256

import torch
from torch import Tensor, nn

from fedgram.config.site import SiteConfig
from fedgram.modalities.base import FittedTokenizer
from fedgram.model.tasks import Task, to_facts
from fedgram.records import WIRE_DTYPE, of_groups
from fedgram.sites.base import Site
from fedgram.sites.channel import Channel
from fedgram.sites.state import local_part


def groups_of(config: SiteConfig, channel: Channel, task: Task) -> dict[str, str]:
    """Name the groups of a site by part that its own file shares: the sha256 of what all members must have alike.

    For the adapter that is the modality and the tokenizer, or the family of one that is fitted to its site; for
    the head the kind of task and its classes in order. Shapes are compared by the server. Class weights are each
    site's own.
    """
    facts, tokenizer = to_facts(task), channel.tokenizer
    family = tokenizer.family if isinstance(tokenizer, FittedTokenizer) else tokenizer.identity
    alike = {
        "adapter": [channel.modality.name, family],
        "head": [facts["kind"], facts.get("classes")],
    }
    return {
        part: sha256(json.dumps([part, *what]).encode()).hexdigest()
        for part, what in alike.items()
        if part in config.share
    }


def parameters_of(modules: Mapping[str, nn.Module], parts: Collection[str]) -> dict[str, nn.Parameter]:
    """The parameters of a site's own modules, of some parts, by the names that they have on the wire."""
    return {f"{part}/{name}": p for part in parts for name, p in modules[part].named_parameters()}


def adopt_groups(site: Site, shared: Mapping[str, Tensor]) -> None:
    """Set W = W₀ + U for what the site shares with others.

    Args:
        shared: U of all groups, :attr:`~fedgram.records.GlobalState.shared`.
    """
    own = parameters_of(site.model.local(), site.groups)
    with torch.no_grad():
        for name, start in _starts(site, shared).items():
            own[name].copy_(start)


def changes_of(site: Site, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The change of W in a round that began with :func:`adopt_groups`, bf16; none of a part without a group."""
    own = parameters_of(site.model.local(), site.groups)
    return {
        name: (own[name].detach().cpu() - start).to(WIRE_DTYPE).contiguous()
        for name, start in _starts(site, shared).items()
    }


def _starts(site: Site, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W₀ + U by name, on the CPU."""
    first = local_part(site.initial)
    return {name: first[name.replace("/", ".", 1)] + u for name, u in of_groups(site.groups, shared).items()}
