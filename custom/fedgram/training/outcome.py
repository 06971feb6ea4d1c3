"""The record of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedgram.core.directory import Directory
from fedgram.records import SiteEvaluation
from fedgram.training.server import ServerState


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a run.

    Attributes:
        server: the last server state.
        together: evaluation of the global model by site.
        alone: evaluation after training alone by site; empty without a baseline.
        kept: evaluation by site of what it keeps: home, the global model, another component, or a mixture.
        directory: of the concepts that sites share; None where none does.
    """

    server: ServerState
    together: Mapping[str, SiteEvaluation]
    alone: Mapping[str, SiteEvaluation]
    kept: Mapping[str, SiteEvaluation] = field(default_factory=dict)
    directory: Directory | None = None
