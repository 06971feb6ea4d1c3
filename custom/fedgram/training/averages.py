"""The averages of one round: each reply is bounded by what is usual, and added as it arrives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core import bounds
from fedgram.core.aggregate import GramConsensus, WeightedMean
from fedgram.core.robust import Combine, combine
from fedgram.errors import UpdateRejected
from fedgram.methods.base import Method
from fedgram.records import GlobalState, SiteUpdate, below
from fedgram.training.contracts import update_norm
from fedgram.training.groups import Groups

B, M, EXTRA = "B/", "m/", "extra/"  # of the tensors in one mean
UPDATE, MAGNITUDE, GRAM, WEIGHT = "update", "m", "gram", "weight"  # parts that are bounded, beside groups'


class Averages:
    """Means of ΔB, m and extras over all sites or by modality, of changes within groups, and of G.

    Args:
        before: what the sites started from.
        job: whose settings say how much one site counts.
        method: of the job.
        modalities: by site that introduced itself.
        groups: of these sites.
        past: of sizes, see :mod:`fedgram.core.bounds`.
        sites: how many may reply.
    """

    def __init__(
        self,
        before: GlobalState,
        job: JobConfig,
        method: Method,
        *,
        modalities: Mapping[str, str],
        groups: Groups,
        past: bounds.Past,
        sites: int,
    ):
        self._before, self._job, self._method = before, job, method
        self._modalities, self._groups, self._past, self._sites = modalities, groups, past, sites
        rules = job.aggregation
        self._combine = combine(rules.rule, rules.tolerated, mixing=rules.mixing)
        self.means: dict[str, WeightedMean] = {}  # by modality, or one under ""
        self._others: dict[str, WeightedMean] = {}  # of extras that are no factors: a mean under every rule
        self._changes: dict[str, WeightedMean] = {}  # within a group, by its name and part
        self._consensus = GramConsensus(job.anchors.slots, median=rules.consensus == "median")
        self._sizes: dict[str, list[float]] = {}
        self.shortened: dict[str, float] = {}  # by site, the smallest factor but that of its weight

    def add(self, reply: SiteUpdate) -> None:
        """Add one reply that keeps the contract.

        Raises:
            FedgramError: a site that did not introduce itself, a second reply, values with no room in a sum. A
                reply that is refused leaves no trace.
        """
        if reply.site not in self._modalities:
            raise UpdateRejected(
                "a site that did not introduce itself", where=reply.site, expected="an answer to round 0 first"
            )
        sizes = self._sizes_of(reply)
        factors = {part: bounds.shortened(size, self._limit(part, reply)) for part, size in sizes.items()}
        weight = reply.weight * factors[WEIGHT]
        adding = [*self._of_all(reply, factors), *self._of_groups(reply, factors)]
        for mean, tensors in adding:
            mean.check(reply.site, tensors, weight)
        gram = bounds.gram_towards(reply.gram, self._before.consensus, reply.slots, factors[GRAM])
        self._consensus.add(reply.site, gram, reply.slots)
        for mean, tensors in adding:
            mean.add(reply.site, tensors, weight)
        for part, size in sizes.items():
            self._sizes.setdefault(part, []).append(size)
        if (least := min(factor for part, factor in factors.items() if part != WEIGHT)) < 1:
            self.shortened[reply.site] = least

    def close(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]], Tensor]:
        """End the round: means by modality, mean changes by group and part, and Ḡ."""
        means = {group: mean.close() for group, mean in sorted(self.means.items()) if mean.weights}
        for group, mean in self._others.items():
            if mean.weights:
                means[group] |= mean.close()
        changes = {within: mean.close() for within, mean in sorted(self._changes.items()) if mean.weights}
        return means, changes, self._consensus.close()

    def past(self) -> dict[str, tuple[float, ...]]:
        """The past of sizes with this round."""
        return bounds.extended(self._past, self._sizes)

    def _sizes_of(self, reply: SiteUpdate) -> dict[str, float]:
        """The size of everything in a reply that is bounded, by part."""
        away = {name: m - self._before.m[name] for name, m in reply.m.items()}
        groups = self._groups.get(reply.site, {})
        return {
            UPDATE: update_norm(reply.delta_B, _factors(reply.extra)),
            MAGNITUDE: update_norm(away),
            GRAM: bounds.gram_distance(reply.gram, self._before.consensus, reply.slots),
            WEIGHT: reply.weight,
            **{f"{kin}/{part}/": update_norm(below(f"{part}/", reply.shared)) for part, kin in groups.items()},
        }

    def _limit(self, part: str, reply: SiteUpdate) -> float:
        """The largest size of a part of a reply.

        Before any is known a change may be as long as AdamW's at its longest, η · steps · √n, and a weight
        ``clip`` times 1, the least there can be: those above it count alike in the first round. A distance of G,
        and whole factors, then have no limit.
        """
        training, tensors, rate = self._job.training, [*reply.m.values()], self._job.training.learning_rate
        if part == UPDATE:
            tensors = [*reply.delta_B.values(), *_factors(reply.extra).values()]
        elif part not in (MAGNITUDE, GRAM, WEIGHT):
            tensors = [*below(f"{part.split('/')[1]}/", reply.shared).values()]
            rate = training.local_learning_rate
        first = rate * training.local_steps * math.sqrt(sum(t.numel() for t in tensors))
        if part == WEIGHT:
            first = self._job.aggregation.clip
        elif part == GRAM or (part == UPDATE and self._method.sends_whole_factors):
            first = math.inf
        return bounds.limit(self._past, part, self._job.aggregation.clip, first)

    def _of_all(
        self, reply: SiteUpdate, factors: Mapping[str, float]
    ) -> Iterable[tuple[WeightedMean, dict[str, Tensor]]]:
        """The tensors of a reply that are averaged over all sites, or over those of its modality."""
        extra = {**reply.extra, **_times(factors[UPDATE], _factors(reply.extra))}
        bounded = replace(reply, delta_B=_times(factors[UPDATE], reply.delta_B), extra=extra)
        away = {name: m.double() - self._before.m[name].double() for name, m in reply.m.items()}
        terms = self._method.terms(bounded, self._before)
        others = {f"{EXTRA}{name}": term for name, term in terms.items() if not _is_factor(name)}
        tensors = {
            **{f"{B}{name}": delta for name, delta in bounded.delta_B.items()},
            **{f"{M}{name}": change for name, change in _times(factors[MAGNITUDE], away).items()},
            **{f"{EXTRA}{name}": term for name, term in terms.items() if _is_factor(name)},
        }
        group = self._modalities[reply.site] if self._method.by_modality else ""
        yield self._mean(self.means, group, tensors, self._combine), tensors
        if others:
            yield self._mean(self._others, group, others, None), others

    def _of_groups(
        self, reply: SiteUpdate, factors: Mapping[str, float]
    ) -> Iterable[tuple[WeightedMean, dict[str, Tensor]]]:
        """The tensors of a reply that are averaged within one of its groups."""
        for part, kin in self._groups.get(reply.site, {}).items():
            within = f"{kin}/{part}/"
            changes = _times(factors[within], below(f"{part}/", reply.shared))
            yield self._mean(self._changes, within, changes, self._combine), changes

    def _mean(
        self, means: dict[str, WeightedMean], name: str, tensors: Mapping[str, Tensor], rule: Combine | None
    ) -> WeightedMean:
        """The mean of that name, begun for tensors of these shapes where there is none."""
        if name not in means:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            most = self._job.aggregation.max_share
            means[name] = WeightedMean(shapes, most, sites=self._sites, combine=rule)
        return means[name]


def _is_factor(name: str) -> bool:
    """Whether an extra is a factor of LoRA or a product of two; prototypes and the like are none."""
    return name.startswith(("A/", "B/", "R/"))


def _factors(extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in extra.items() if _is_factor(name)}


def _times(factor: float, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors times a factor, float64; as they are where it is 1."""
    return dict(tensors) if factor == 1 else {name: factor * tensor.double() for name, tensor in tensors.items()}
