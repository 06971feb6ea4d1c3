"""The server's step from one state to the next, on the means of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.server_step import ServerStep
from fedgram.methods import method_of
from fedgram.methods.base import Closing
from fedgram.records import GlobalState, below
from fedgram.training.averages import EXTRA, B, M
from fedgram.training.contracts import update_norm

_SHARED = "shared/"  # of moments


@dataclass(frozen=True, kw_only=True)
class Means:
    """The means of one round.

    Attributes:
        tensors: by modality, or of all sites under ``""``: B, m and extras, float64.
        parts: of each of these groups in the sum of all weights, none of which exceeds ``max_share``.
        consensus: Ḡ.
        within_groups: mean changes by group and part.
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    parts: Mapping[str, float]
    consensus: Tensor
    within_groups: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def advance(
    before: GlobalState, moments: Mapping[str, Tensor], job: JobConfig, means: Means
) -> tuple[GlobalState, dict[str, Tensor], float]:
    """The server's step on Σ p_k ΔB_k / Σ p_k, for W and head within groups; mean m; Ḡ; extras.

    Returns:
        The next state, the moments of the server's optimiser, and the norm of the mean change.
    """
    rules, whole = job.aggregation, means.tensors.get("", {})
    step = ServerStep(rules.server_optimizer, rules.server_learning_rate, rules.server_momentum, moments)
    changes = below(B, whole)
    trained = {k: b + step(f"{B}{k}", changes[k]) for k, b in before.B.items()}
    shared = {**before.shared}
    for within, mean in means.within_groups.items():
        for name, change in mean.items():
            shared[within + name] = shared[within + name] + step(f"{_SHARED}{within}{name}", change)
    extras = {group: below(EXTRA, mean) for group, mean in means.tensors.items()}
    state = replace(
        before,
        round=before.round + 1,
        B=trained,
        m={k: (before.m[k] + v).float() for k, v in below(M, whole).items()},
        consensus=means.consensus,
        extra=method_of(job).finish(
            Closing(before=before, B=trained, means=extras, shares=means.parts, step=step)
        ),
        shared=shared,
    )
    # A group that nobody answered for keeps its moments.
    return state, {**moments, **step.moments}, update_norm(changes, extras.get("", {}))
