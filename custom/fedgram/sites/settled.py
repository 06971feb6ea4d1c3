"""The mixture that a site keeps after a run, in files beside its model.

``kept.json`` says how much of it is home, the federation's model, the directory of concepts, and the regression
on frozen tokens; ``home/`` has what home learnt, where it has a part, ``directory.safetensors`` the directory,
where sites share concepts, and ``frozen.safetensors`` the regression, where it has a part.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram.config.strict import from_dict
from fedgram.core.directory import Directory
from fedgram.errors import CheckpointError, ConfigError
from fedgram.files import read_tensors, write_atomically, write_tensors, write_text
from fedgram.scoring.frozen import FrozenLinear
from fedgram.sites.kept import LOCAL, read_trained
from fedgram.sites.state import FORMAT

HOME, TOGETHER, DIRECTORY, FROZEN = "home", "together", "directory", "frozen"
COMPONENTS = (HOME, TOGETHER, DIRECTORY, FROZEN)
_FILE, _SITE, _DIRECTORY, _FROZEN = "kept.json", "site.json", "directory.safetensors", "frozen.safetensors"
_REMEDY = "restore it from a backup, or run the job again"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The mixture that a site keeps, and the reason.

    Attributes:
        weights: of each component; they sum to 1.
        losses: validation loss of each component and of ``kept``, the mean over groups, where it is finite.
        standard_error: of the improvement of ``kept`` over home, over groups; None where home is kept.
        groups: the number of validation groups that were asked.
        concepts: the number of prototypes in the directory.
        why: a sentence.
    """

    weights: Mapping[str, float]
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    standard_error: float | None = None
    groups: int = 0
    concepts: int = 0
    why: str

    @classmethod
    def alone(cls, component: str, why: str, groups: int = 0) -> Kept:
        """Keep one component and nothing else."""
        return cls(weights={c: float(c == component) for c in COMPONENTS}, groups=groups, why=why)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A mixture that a site keeps, with all that has a part in it beside the federation's model.

    Attributes:
        home: all that trained alone; empty where it has no part.
        directory: of concepts; None where no site has shared any.
        frozen: the regression on frozen tokens; None where it has no part.
    """

    kept: Kept
    home: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    directory: Directory | None = None
    frozen: FrozenLinear | None = None


def write_settled(
    result: Path, kept: Kept, home: Path | None, directory: Directory | None, frozen: FrozenLinear | None
) -> None:
    """Write beside a site's model what it keeps; ``site.json`` then says that it is there.

    Args:
        result: folder of the federation's model at the site.
        home: folder of the model that was trained alone.
        frozen: the regression on frozen tokens, where there is one.
    """
    write_directory(result, directory)
    if frozen is not None and kept.weights[FROZEN] > 0:
        write_tensors(result / _FROZEN, {"weight": frozen.weight, "bias": frozen.bias})
    else:
        (result / _FROZEN).unlink(missing_ok=True)
    kept = dataclasses.replace(kept, concepts=len(directory.prototypes) if directory else 0)
    if home is not None and kept.weights[HOME] > 0:
        write_atomically(result / HOME / LOCAL, partial(shutil.copyfile, home / LOCAL))
    else:
        shutil.rmtree(result / HOME, ignore_errors=True)
    write_text(
        result / _FILE, json.dumps({"format": FORMAT, **dataclasses.asdict(kept)}, indent=2, allow_nan=False)
    )
    facts = json.loads((result / _SITE).read_text(encoding="utf-8"))
    write_text(result / _SITE, json.dumps({**facts, "settled": True}, indent=2))


def write_directory(folder: Path, directory: Directory | None) -> None:
    """Write a directory of concepts, or take an older one away where there is none."""
    path = folder / _DIRECTORY
    if directory is None:
        path.unlink(missing_ok=True)
        return
    names = json.dumps([*directory.prototypes])  # a concept may have a name that tensors must not have
    prototypes = torch.stack([*directory.prototypes.values()])
    write_tensors(path, {"places": directory.places, "prototypes": prototypes}, {"concepts": names})


def read_directory(folder: Path) -> Directory:
    """Read a directory of concepts.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    tensors, metadata = read_tensors(folder / _DIRECTORY, _REMEDY)
    try:
        names = [(str(modality), str(concept)) for modality, concept in json.loads(metadata["concepts"])]
        return Directory(places=tensors["places"], prototypes=dict(zip(names, tensors["prototypes"], strict=True)))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"damaged ({type(error).__name__})", where=folder / _DIRECTORY, remedy=_REMEDY
        ) from None


def _read_frozen(folder: Path) -> FrozenLinear:
    tensors, _ = read_tensors(folder / _FROZEN, _REMEDY)
    try:
        return FrozenLinear(tensors["weight"], tensors["bias"])
    except KeyError as error:
        raise CheckpointError(f"damaged (no {error})", where=folder / _FROZEN, remedy=_REMEDY) from None


def read_settled(result: Path, facts: Mapping[str, Any]) -> Settled:
    """Read what a site keeps, and the parts of it.

    Args:
        facts: of ``site.json``; a run that was cut before its last task left the federation's model alone.

    Raises:
        CheckpointError: a part of it is missing, damaged or of another version.
    """
    if not facts.get("settled"):
        return Settled(kept=Kept.alone(TOGETHER, "together: the run ended before its sites chose what to keep"))
    path = result / _FILE
    error = partial(CheckpointError, where=path, remedy=_REMEDY)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("format")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise error(f"missing or damaged ({type(fault).__name__})") from None
    if version != FORMAT:
        raise error("saved by another version of fedgram", expected=f"format {FORMAT}")
    try:
        kept = from_dict(Kept, found, str(path))
    except ConfigError as fault:
        raise error(f"damaged ({fault.problem})") from fault
    weights = kept.weights
    if weights.keys() != set(COMPONENTS) or not all(0 <= w <= 1 for w in weights.values()):
        raise error("damaged (weights)", expected=f"a number in [0, 1] for each of {', '.join(COMPONENTS)}")
    if not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-6):
        raise error(f"damaged (weights of sum {sum(weights.values()):.3g})", expected="a sum of 1")
    if weights[DIRECTORY] > 0 and not kept.concepts:
        raise error("damaged (a part of a directory that has no concept)")
    directory = read_directory(result) if kept.concepts else None
    if directory is not None and len(directory.prototypes) != kept.concepts:
        raise error(f"{len(directory.prototypes)} prototypes", expected=f"{kept.concepts}, as in the run")
    return Settled(
        kept=kept,
        home=read_trained(result / HOME) if weights[HOME] > 0 else {},
        directory=directory,
        frozen=_read_frozen(result) if weights[FROZEN] > 0 else None,
    )
