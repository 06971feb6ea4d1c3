"""What only a machine's own files say: where a site's data are and on what it computes, where the server saves.

A job can neither read nor change them. These and :mod:`fedgram.config.job` hold the only defaults of fedgram.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedgram.config.job import MethodName
from fedgram.config.strict import from_dict
from fedgram.config.unified import UnifiedConfig
from fedgram.errors import ConfigError

Precision = Literal["fp32", "bf16", "int8", "nf4"]
SPLIT = "split"  # the device that is all GPUs
UNIFIED = "unified"  # the modality of a site with a unified model
_PATHS = ("data", "anchors", "heldout", "labels", "cache", "state")

TaskName = Literal["classification", "multilabel", "regression", "segmentation"]


@dataclass(frozen=True)
class Columns:
    """What the columns of a site's table are called.

    Attributes:
        id: names a sample in local messages; the row's number when the table has no such column.
        concept: what the anchors speak of. Optional where the task has a target of its own.
        group: what must not be on two sides of a split (patient). ``group = "id"`` says that every row is one.
        target: what the head learns; when absent ``concept`` to classify, ``mask`` to segment, else ``target``.
            For several labels a sample they stand in one cell, between ``|`` or ``;``.
        targets: instead of ``target``, for several labels a sample: one column of 0 and 1 for each.
        split: says ``train``, ``validation`` or ``test``; without that column samples are split by group.
        text: of the texts.
        path: of the images, relative to the folder of the table, or to ``data`` when that is a folder.
        drop: columns of a table that are not features.
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
    """How a site's files are to be understood.

    Attributes:
        columns: of its table.
        task: what the targets are; None where there are none: the second modality of pairs, which has to have ids.
        labels: the table of labels, where it is not ``data`` itself nor beside it.
        window: lowest and highest intensity of images of more than 8 bits.
    """

    columns: Columns = field(default_factory=Columns)
    task: TaskName | None = "classification"
    labels: str | None = None
    window: tuple[float, ...] | None = None

    @property
    def target(self) -> str:
        """The column of the target."""
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
        modality, data, tokenizer, labels, columns, window: of the second modality, as :class:`SiteConfig` has them
            for the first. It has no task: the head stays the first modality's.
        weight: of the contrastive loss beside the task loss.
        temperature: τ of the contrastive loss; the smaller, the more the nearest wrong pairs count.
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
        _require_window(self.window, "bridge.window")
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"{self.weight!r}", where="bridge.weight", expected="not negative")
        if not 0.01 <= self.temperature <= 10:
            raise ConfigError(f"{self.temperature!r}", where="bridge.temperature", expected="within 0.01 … 10")

    @property
    def reading(self) -> Reading:
        """How the second modality's files are to be understood."""
        return Reading(self.columns, None, self.labels, self.window)


@dataclass(frozen=True)
class SiteConfig:
    """What only the site knows; read from its own file, never from a job.

    Attributes:
        modality: ``image``, ``text``, ``genomics``, ``tabular``, ``unified`` or ``package.module:attribute``.
        anchors: folder of the anchor set that trains.
        data: folder or file with the site's data (``demo:…`` names the embedded demo).
        tokenizer: name, hub id or folder of the frozen encoder. A unified site has neither: see ``unified``.
        task: what the site's head learns; the sites of a federation may have different ones.
        class_weights: whether every class counts the same in the loss (``balanced``), or every sample.
        labels: table of labels, where it is not ``data`` itself nor beside it.
        columns: what its columns are called.
        window: lowest and highest intensity of images of more than 8 bits (CT in Hounsfield units, say).
        heldout: folder of the held-out anchor set.
        concepts: train on these labels only; all when empty.
        methods: that a job may run here; what each sends is in :mod:`fedgram.methods`.
        bridge: a second modality, where samples of the site have one.
        unified: what a site of modality ``unified`` learns from.
        backbones: folder by backbone name, for backbones that are not fetched from the hub by their id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …; ``split`` spreads the backbone over all GPUs.
        precision: of the frozen backbone; ``int8`` and ``nf4`` are quantised by bitsandbytes.
        gradient_checkpointing: compute the layers twice instead of keeping what is inside them.
        threads: CPU threads; 0 leaves it to torch.
        cache: folder of the token cache.
        state: folder of the site's own state and results; inside the site's workspace when absent.
    """

    modality: str
    anchors: str
    data: str = ""
    tokenizer: str = ""
    task: TaskName = "classification"
    class_weights: Literal["equal", "balanced"] = "equal"
    labels: str | None = None
    columns: Columns = field(default_factory=Columns)
    window: tuple[float, ...] | None = None
    heldout: str | None = None
    concepts: tuple[str, ...] = ()
    methods: tuple[MethodName, ...] = ("geo",)
    bridge: BridgeConfig | None = None
    unified: UnifiedConfig | None = None
    backbones: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    threads: int = 0
    cache: str = "~/.cache/fedgram"
    state: str | None = None

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"{self.threads!r}", where="threads", expected="0 or more")
        _require_window(self.window, "window")
        if (self.modality == UNIFIED) != (self.unified is not None):
            which = "without" if self.unified is None else "with"
            problem = f"modality {self.modality!r} {which} a [unified] table"
            raise ConfigError(problem, where="unified", expected=f"it at sites of modality {UNIFIED!r} alone")
        if self.columns.targets and self.task != "multilabel":
            raise ConfigError("several targets", where="columns.targets", expected="task = 'multilabel'")

    def require_unified(self) -> UnifiedConfig:
        """The table of a unified site.

        Raises:
            ConfigError: this is a site of one modality.
        """
        if self.unified is None:
            raise ConfigError("no [unified] table", where="unified", expected=f"modality = {UNIFIED!r}")
        return self.unified

    @property
    def reading(self) -> Reading:
        """How the site's files are to be understood."""
        return Reading(self.columns, self.task, self.labels, self.window)


@dataclass(frozen=True)
class ServerConfig:
    """What only the server's own machine knows.

    Attributes:
        state: folder of the saved rounds, from which an interrupted run goes on; inside the server's workspace
            when absent. `nvflare simulator` empties its workspace, so there only a folder elsewhere outlives it.
    """

    state: str | None = None


def find_site_config(local: Path, name: str) -> SiteConfig:
    """The site's own file in the ``local`` folder of its workspace.

    ``fedgram/<site>.toml`` is for a simulator, whose sites share one folder; else ``fedgram.toml``.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    own = local / "fedgram" / f"{name}.toml"
    return read_site_config(own if own.exists() else local / "fedgram.toml")


def read_server_config(path: Path) -> ServerConfig:
    """Read the server's own file (TOML); all defaults when there is none.

    Raises:
        ConfigError: it is not TOML, holds an unknown or wrong setting, or a relative path.
    """
    if not path.exists():
        return ServerConfig()
    config = from_dict(ServerConfig, _toml(path), str(path))
    _require_whole_paths({"state": config.state}, path)
    return config


def read_site_config(path: Path) -> SiteConfig:
    """Read a site's own file (TOML).

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an unknown, missing or wrong setting, or a
            relative path.
    """
    if not path.exists():
        raise ConfigError(
            "no site file", where=path, remedy="copy provisioning/site.example.toml there and edit it"
        )
    settings = _toml(path)
    bridge = settings.get("bridge")
    _refuse_swallowed(settings, "columns", Columns, path)
    _refuse_swallowed(settings, "bridge", BridgeConfig, path)
    _refuse_swallowed(settings, "unified", UnifiedConfig, path)
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
    _require_whole_paths(paths, path)
    return config


def _refuse_swallowed(settings: Mapping[str, Any], table: str, kind: type, path: Path) -> None:
    """Raises ConfigError where a setting of the site stands below a table that does not have it."""
    below = settings.get(table)
    swallowed = set(below if isinstance(below, dict) else ()) & SiteConfig.__dataclass_fields__.keys()
    for name in sorted(swallowed - kind.__dataclass_fields__.keys()):
        raise ConfigError(
            f"{name!r} stands below [{table}]",
            where=path,
            expected=f"only settings of [{table}] there",
            remedy="move the site's settings above the first [table]: TOML takes all below it for the table's own",
        )


def _require_whole_paths(named: Mapping[str, str | None], path: Path) -> None:
    """A job's processes run in a folder of their own, where a relative path would lead somewhere else."""
    for name, value in named.items():
        if value is not None and not value.startswith(("/", "~", "demo:")):
            raise ConfigError(
                f"{name} is a relative path",
                where=path,
                expected="a whole path, from / or ~",
                remedy="write it as `realpath` prints it: a job runs in a folder of its own",
            )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file: {error}", where=path) from None
