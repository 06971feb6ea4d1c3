"""Differential privacy in a site's own file, and the settings that it does not go together with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedgram.errors import ConfigError

SiteSettings = Any  # a SiteConfig, which has a PrivacyConfig in it


@dataclass(frozen=True)
class PrivacyConfig:
    """The bound on what all that a site sends can tell about one group (patient) of its own.

    Attributes:
        epsilon: ε of one job: its noise is the least that keeps to it. The smaller, the more is hidden.
        delta: δ of one job: below 1 / training groups, as a bound that is void for one patient is none.
        clip: the length C to which the gradient of a group is shortened, its three parts (B and m, W, head) alike;
            noise has σ C in every coordinate.
        budget: ε over all jobs, kept on disk with the site's state: once it would be passed, no job has a reply.
            That of one job when absent.
        unit: whose presence is hidden: a group of the site's table (``columns.group``), with all its samples.
        target: mean and spread of a regression's numbers, as public knowledge has them: the data may not tell.
    """

    epsilon: float
    delta: float
    clip: float = 1.0
    budget: float | None = None
    unit: Literal["group"] = "group"
    target: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require(0 < self.epsilon < math.inf, "epsilon", self.epsilon, "positive")
        _require(0 < self.delta < 1, "delta", self.delta, "in (0, 1), below 1 / training groups")
        _require(0 < self.clip < math.inf, "clip", self.clip, "positive")
        _require(self.total < math.inf and self.total >= self.epsilon, "budget", self.budget, "epsilon or more")
        fits = not self.target or (len(self.target) == 2 and self.target[1] > 0)
        _require(fits, "target", self.target, "[mean, spread], the spread positive")

    @property
    def total(self) -> float:
        """The ε that all jobs together may spend."""
        return self.epsilon if self.budget is None else self.budget


def _classes_are_public(config: SiteSettings) -> bool:
    return config.task == "classification" or (config.task == "multilabel" and bool(config.columns.targets))


# What couples samples of different groups, or shows them, by what the file says; and what to do about it.
_REFUSED: Mapping[str, tuple[Callable[[SiteSettings], bool], str]] = {
    "a [bridge]": (
        lambda config: config.bridge is not None,
        "remove it: its contrastive loss sets samples of different groups against each other",
    ),
    "a unified model": (
        lambda config: config.unified is not None,
        "use a site of one modality: the gradients of a unified model are not clipped by group",
    ),
    "TabPFN": (
        lambda config: config.modality == "tabular" and config.tokenizer not in ("numeric", "wide"),
        "use tokenizer 'numeric': TabPFN's context are the training rows themselves",
    ),
    "share of 'concepts'": (
        lambda config: "concepts" in config.share,
        "leave it out: prototypes are means of private samples; 'adapter' and 'head' may be shared",
    ),
    "class_weights 'balanced'": (
        lambda config: config.class_weights != "equal",
        "use 'equal': balanced weights count the samples of each class",
    ),
    "a regression without privacy.target": (
        lambda config: config.task == "regression" and not (config.privacy and config.privacy.target),
        "write target = [mean, spread] under [privacy], from public knowledge",
    ),
    "a task whose classes the data tell": (
        lambda config: config.task != "regression" and not _classes_are_public(config),
        "use task 'classification' (classes from `concepts` or the anchors), 'multilabel' with columns.targets, "
        "or 'regression'",
    ),
}


def require_private(config: SiteSettings) -> None:
    """Refuse settings that no bound holds for.

    Raises:
        ConfigError: names the first of them.
    """
    for name, (applies, remedy) in _REFUSED.items():
        if applies(config):
            raise ConfigError(f"{name}, with [privacy]", where="privacy", expected="neither", remedy=remedy)


def _require(fits: bool, name: str, value: object, expected: str) -> None:
    if not fits:
        raise ConfigError(f"{value!r}", where=f"privacy.{name}", expected=expected)
