"""Groups of sites of one kind, seen from the server: who is in which, and the sum of each group's mean changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fedgram.records import SiteIntroduction, of_groups

Groups = Mapping[str, Mapping[str, str]]  # by site and part, the name of the group


def form_groups(replies: Iterable[SiteIntroduction]) -> tuple[dict[str, dict[str, str]], dict[str, Tensor]]:
    """Find the groups of two or more sites that name one group for a part and have its shapes alike.

    Where shapes differ under one name, most sites' count, and the others are in no group.

    Returns:
        The groups by site and part, and U = 0 of each by ``<group>/<tensor>``.
    """
    replies = list(replies)
    claims = {
        (reply.site, part, group): _shapes(reply, part)
        for reply in replies
        for part, group in sorted(reply.groups.items())
    }
    votes = Counter((part, group, shapes) for (_, part, group), shapes in claims.items())
    chosen: dict[tuple[str, str], tuple[tuple[str, tuple[int, ...]], ...]] = {}
    for (part, group, shapes), count in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if count > 1:
            chosen.setdefault((part, group), shapes)
    groups: dict[str, dict[str, str]] = {}
    for (site, part, group), shapes in claims.items():
        if chosen.get((part, group)) == shapes:
            groups.setdefault(site, {})[part] = group
    zeros = {f"{group}/{name}": torch.zeros(s) for (_, group), named in chosen.items() for name, s in named}
    return groups, zeros


def most_shared(groups: Groups, shared: Mapping[str, Tensor]) -> int:
    """Count the numbers that a site sends within its groups: those of the site with most."""
    sent = (of_groups(own, shared).values() for own in groups.values())
    return max((sum(u.numel() for u in tensors) for tensors in sent), default=0)


def _shapes(reply: SiteIntroduction, part: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((k, tuple(s)) for k, s in reply.shared_shapes.items() if k.startswith(f"{part}/")))
