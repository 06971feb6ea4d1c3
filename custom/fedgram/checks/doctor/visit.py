"""The frame of the doctor's checks: what they know of a participant, and how all of them are run."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fedgram.checks.finding import Finding, from_error
from fedgram.errors import ConfigError, FedgramError

if TYPE_CHECKING:
    import torch

    from fedgram.anchors import AnchorSet
    from fedgram.config.job import JobConfig
    from fedgram.config.site import SiteConfig
    from fedgram.modalities.base import Modality
    from fedgram.records import ModelSpec
    from fedgram.sites.pairs import Pair

T = TypeVar("T")


@dataclass(frozen=True)
class Kit:
    """A FLARE startup kit of a site or the server.

    Attributes:
        folder: that holds ``local`` and ``startup``.
        side: whose it is.
        name: of the participant, as a job's ``deploy_map`` calls it.
        host, port: of the server.
        settings: the part of ``startup/fed_client.json`` or ``fed_server.json`` that names the certificates.
    """

    folder: Path
    side: Literal["client", "server"]
    name: str
    host: str
    port: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class AnnouncedJob:
    """The demands of a job folder on a participant.

    Attributes:
        settings: of fedgram.
        classes: that FLARE builds here.
        modality: that the job expects here; None at the server.
        custom_code: whether the app brings code along.
        gpus, gpu_memory: that it reserves here, in number and GiB each.
    """

    settings: JobConfig
    classes: tuple[str, ...]
    modality: str | None
    custom_code: bool
    gpus: float
    gpu_memory: float


@dataclass
class Visit:
    """The facts known so far: a check fills in what later ones need."""

    kit: Kit
    job_folder: Path | None = None
    job: AnnouncedJob | None = None
    config: SiteConfig | None = None
    modality: Modality | None = None
    samples: Mapping[str, Sequence[Any]] | None = None
    anchors: AnchorSet | None = None
    heldout: AnchorSet | None = None
    pairs: Mapping[str, Sequence[Pair]] | None = None
    token_shape: tuple[int, int] | None = None
    paired_shape: tuple[int, int] | None = None  # of the second modality's tokens
    device: torch.device | None = None
    seen: int = 0  # bytes that a unified model sees of a picture, which its cache holds
    weights: int | None = None  # bytes of the backbone, once they are known to fit
    spec: ModelSpec | None = None
    shared: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what it shares within groups
    state_bytes: int | None = None


Check = Callable[[Visit], Iterator[Finding]]


class Skip(Exception):
    """A check that cannot be made, with the reason."""


def needed(fact: T | None, check: str) -> T:
    """Return a fact that an earlier check was to find.

    Raises:
        Skip: it did not.
    """
    if fact is None:
        raise Skip(f"because {check!r} failed")
    return fact


def name_of(check: Check) -> str:
    """The name of a check in the table."""
    return check.__name__.replace("_", " ")


def run(checks: Sequence[Check], visit: Visit) -> Iterator[tuple[str, Finding]]:
    """Run every check, whatever the others find."""
    for check in checks:
        try:
            for finding in check(visit):
                yield name_of(check), finding
        except Exception as error:  # one check must not keep the others from being made
            yield name_of(check), _from_error(error)


def _from_error(error: Exception) -> Finding:
    match error:
        case Skip():
            return Finding("skipped", str(error))
        case FedgramError():
            return from_error(error)
        case PermissionError():
            text = f"{error.filename}: this user may not read it"
            return Finding("failure", text, "run the doctor as the user that runs FLARE here")
        case FileNotFoundError():
            return Finding("failure", f"{error.filename}: {error.strerror}", "correct the path in the site file")
    place = traceback.extract_tb(error.__traceback__)[-1]  # its text could quote data
    text = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    return Finding("failure", text, "unforeseen: report it with this line, which holds nothing of the data")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"unreadable ({error.strerror})", where=path, remedy="restore it from the kit") from None
    except ValueError as error:
        raise ConfigError(f"not JSON ({error})", where=path, remedy="correct it, or restore it") from None
