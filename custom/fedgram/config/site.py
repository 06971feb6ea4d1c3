"""The settings of one machine: where a site's data are and on what it computes, where the server saves.

A job can neither read nor change them. These and :mod:`fedgram.config.job` hold the only defaults of fedgram.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedgram.config.privacy import PrivacyConfig, require_private
from fedgram.config.strict import expand_home, from_dict, read_toml, require_absolute_paths
from fedgram.config.targets import TaskName, require_task, targets_of
from fedgram.config.unified import UnifiedConfig
from fedgram.errors import ConfigError

Precision = Literal["fp32", "bf16", "int8", "nf4"]
Share = Literal["adapter", "head", "concepts"]
Mode = Literal["masked"]
SPLIT = "split"  # the device that is all GPUs
UNIFIED = "unified"  # the modality of a site with a unified model
_MOST_THREADS = 4096
_PATHS = ("data", "anchors", "heldout", "labels", "cache", "state")


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a site's table.

    Attributes:
        id: the column that names a sample in local messages; without it the row's number does.
        concept: the column of the anchors' concepts; optional where the task has a target of its own.
        group: the column of what must not be on two sides of a split (patient); ``"id"`` makes every row a group.
        target: the column that the head learns, with ``|`` or ``;`` between several labels of a sample; when
            absent ``concept`` to classify, ``mask`` to segment, else ``target``.
        targets: columns of 0 and 1, one for each label, instead of ``target``.
        split: the column with ``train``, ``validation`` or ``test``; without it samples are split by group.
        text: the column of the texts.
        path: the column of the images' files, relative to the table's folder, or to ``data`` if it is a folder.
        drop: columns that are not features.
        categories: columns whose numbers are codes.
    """

    id: str = "id"
    concept: str = "concept"
    group: str = "group"
    target: str = ""
    targets: tuple[str, ...] = ()
    split: str = "split"
    text: str = "text"
    path: str = "path"
    drop: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.target and self.targets:
            raise ConfigError("both target and targets", where="columns", expected="one of them")


@dataclass(frozen=True)
class Reading:
    """The way in which a site's files are to be read.

    Attributes:
        columns: the names of the table's columns.
        task: the task of the targets; None where there are none: the second modality of pairs, which needs ids.
        labels: the table of labels, where it is neither ``data`` itself nor beside it.
        window: lowest and highest intensity of images of more than 8 bits.
    """

    columns: Columns = field(default_factory=Columns)
    task: TaskName | None = "classification"
    labels: str | None = None
    window: tuple[float, ...] | None = None

    @property
    def target(self) -> str:
        """The name of the target's column."""
        own = {None: self.columns.concept, "classification": self.columns.concept, "segmentation": "mask"}
        return self.columns.target or own.get(self.task, "target")


def _require_window(window: tuple[float, ...] | None, setting: str) -> None:
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise ConfigError(f"{window!r}", where=setting, expected="[lowest, highest] intensity")


PLAIN = Reading()  # a table with the columns id, concept and group


@dataclass(frozen=True)
class BridgeConfig:
    """A second modality at the site, paired by sample id with the first.

    Attributes:
        modality: the second modality. It has no task: the head stays the first modality's.
        data: folder or file with its data.
        tokenizer: name, hub id or folder of its frozen encoder.
        labels: its table of labels, where that is neither ``data`` itself nor beside it.
        columns: the names of its table's columns.
        window: lowest and highest intensity of its images, where they have more than 8 bits.
        weight: the weight of the contrastive loss beside the task loss.
        temperature: the contrastive loss's temperature; the smaller, the more the nearest wrong pairs count.
    """

    modality: str
    data: str
    tokenizer: str
    labels: str | None = None
    columns: Columns = field(default_factory=Columns)
    window: tuple[float, ...] | None = None
    weight: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        expand_home(self, ("data", "labels"))
        _require_window(self.window, "bridge.window")
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"{self.weight!r}", where="bridge.weight", expected="not negative")
        if not 0.01 <= self.temperature <= 10:
            raise ConfigError(f"{self.temperature!r}", where="bridge.temperature", expected="within 0.01 … 10")

    @property
    def reading(self) -> Reading:
        """The way in which the second modality's files are to be read."""
        return Reading(self.columns, None, self.labels, self.window)


@dataclass(frozen=True)
class SiteConfig:
    """The settings of one site, read from its own file, never from a job.

    Attributes:
        modality: ``image``, ``text``, ``genomics``, ``tabular``, ``audio``, ``unified`` or
            ``package.module:attribute``.
        anchors: folder of the anchor set for training.
        data: folder or file with the site's data (``demo:…`` names the embedded demo).
        tokenizer: name, hub id or folder of the frozen encoder. A unified site has neither: see ``unified``.
        task: ``classification``, ``multilabel``, ``regression``, ``segmentation`` or ``package.module:Class``.
        class_weights: whether every class counts the same in the loss (``balanced``), or every sample.
        labels: table of labels, where it is neither ``data`` itself nor beside it.
        columns: the names of the table's columns.
        window: lowest and highest intensity of images of more than 8 bits (CT in Hounsfield units, say).
        heldout: folder of the held-out anchor set.
        concepts: the labels to train on; all when empty.
        methods: the :mod:`fedgram.methods` that a job may run here; one of another package by its import path.
        share: what the site shares beyond B and m with the sites that share it too: the change of its ``adapter``
            and of its ``head`` within their group, the prototypes of its ``concepts``; nothing when empty.
        require: what a job must be to run here: ``masked``, for the server to see sums alone; anything when empty.
        bridge: a second modality, where samples of the site have one.
        unified: the data of a site of modality ``unified``.
        privacy: the bound on what all that leaves can tell about one group; none when absent.
        backbones: folder by backbone name, for backbones that are not fetched from the hub by their id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …; ``split`` spreads the backbone over all GPUs.
        precision: the precision of the frozen backbone; ``int8`` and ``nf4`` are quantised by bitsandbytes.
        gradient_checkpointing: whether layers are computed twice instead of kept in memory.
        threads: the number of CPU threads; 0 leaves it to torch.
        cache: folder of the token cache.
        state: folder of the site's own state and results; inside the site's workspace when absent.
        secret: a phrase that nobody else knows, from which initial weights and batches are drawn; when absent, one
            is drawn once and kept with the site's state. Empty, they follow from the job: for public data only. In
            masked jobs and with ``[privacy]`` it has 32 characters or more.
    """

    modality: str
    anchors: str
    data: str = ""
    tokenizer: str = ""
    task: str = "classification"
    class_weights: Literal["equal", "balanced"] = "equal"
    labels: str | None = None
    columns: Columns = field(default_factory=Columns)
    window: tuple[float, ...] | None = None
    heldout: str | None = None
    concepts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("geo",)
    share: tuple[Share, ...] = ()
    require: tuple[Mode, ...] = ()
    bridge: BridgeConfig | None = None
    unified: UnifiedConfig | None = None
    privacy: PrivacyConfig | None = None
    backbones: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    threads: int = 0
    cache: str = "~/.cache/fedgram"
    state: str | None = None
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        expand_home(self, _PATHS)
        object.__setattr__(self, "backbones", {k: os.path.expanduser(v) for k, v in self.backbones.items()})
        if not 0 <= self.threads <= _MOST_THREADS:
            raise ConfigError(f"{self.threads!r}", where="threads", expected=f"0 … {_MOST_THREADS}")
        _require_window(self.window, "window")
        require_task(self.task)
        if (self.modality == UNIFIED) != (self.unified is not None):
            problem = f"modality {self.modality!r} with{'out' * (self.unified is None)} a [unified] table"
            raise ConfigError(problem, where="unified", expected=f"one at {UNIFIED!r} sites, and only there")
        if self.unified is not None and self.share:
            raise ConfigError(f"{list(self.share)}", where="share", expected="nothing at a unified site")
        if "head" in self.share and targets_of(self.task) not in ("classification", "multilabel"):
            raise ConfigError(
                f"'head' for {self.task!r}", where="share", expected="a task whose classes have names"
            )
        if self.columns.targets and targets_of(self.task) != "multilabel":
            raise ConfigError("several targets", where="columns.targets", expected="task = 'multilabel'")
        if self.privacy is not None:
            require_private(self)

    def require_unified(self) -> UnifiedConfig:
        """The settings of a unified site.

        Raises:
            ConfigError: this is a site of one modality.
        """
        if self.unified is None:
            raise ConfigError("no [unified] table", where="unified", expected=f"modality = {UNIFIED!r}")
        return self.unified

    @property
    def reading(self) -> Reading:
        """The way in which the site's files are to be read."""
        return Reading(self.columns, targets_of(self.task), self.labels, self.window)


def find_site_config(local: Path, name: str) -> SiteConfig:
    """Read the site's own file in ``local``: ``fedgram/<site>.toml`` as in a simulator, else ``fedgram.toml``.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    own = local / "fedgram" / f"{name}.toml"
    return read_site_config(own if own.exists() else local / "fedgram.toml")


def read_site_config(path: Path) -> SiteConfig:
    """Read a site's own file (TOML).

    Raises:
        ConfigError: no such file, not TOML, an unknown, missing or wrong setting, or a relative path.
    """
    if not os.path.lexists(path):
        raise ConfigError(
            "no site file", where=path, remedy="copy provisioning/site.example.toml there and edit it"
        )
    settings = read_toml(path)
    bridge = settings.get("bridge")
    _refuse_swallowed(settings, "columns", Columns, path)
    _refuse_swallowed(settings, "bridge", BridgeConfig, path)
    _refuse_swallowed(settings, "unified", UnifiedConfig, path)
    _refuse_swallowed(settings, "privacy", PrivacyConfig, path)
    _refuse_swallowed(bridge if isinstance(bridge, dict) else {}, "columns", Columns, path)
    config = from_dict(SiteConfig, settings, str(path))
    paths = {name: getattr(config, name) for name in _PATHS}
    paths |= {f"backbones: {name}": folder for name, folder in config.backbones.items()}
    if config.bridge is not None:
        paths |= {"bridge.data": config.bridge.data, "bridge.labels": config.bridge.labels}
    if config.unified is not None:
        paths |= {**config.unified.paths(), "data": None}
    elif missing := [name for name in ("data", "tokenizer") if not getattr(config, name)]:
        raise ConfigError(f"missing setting {missing[0]!r}", where=path)
    require_absolute_paths(paths, path)
    return config


def _refuse_swallowed(settings: Mapping[str, Any], table: str, kind: type, path: Path) -> None:
    """Refuse a setting of the site that stands below a table that does not have it."""
    below = settings.get(table)
    swallowed = set(below if isinstance(below, dict) else ()) & SiteConfig.__dataclass_fields__.keys()
    for name in sorted(swallowed - kind.__dataclass_fields__.keys()):
        raise ConfigError(
            f"{name!r} stands below [{table}]",
            where=path,
            expected=f"only settings of [{table}] there",
            remedy="move the site's settings above the first [table]: TOML takes all below it for the table's own",
        )
