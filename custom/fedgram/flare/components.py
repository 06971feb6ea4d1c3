"""The classes that FLARE builds for a job of fedgram, by path: for job folders, allow-lists and the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SITE_EXECUTOR = "fedgram.flare.executors.SiteExecutor"
EXECUTORS = {  # these say their modality; any other is an argument of the first
    kind: f"fedgram.flare.executors.{kind.title()}Executor" for kind in ("image", "text", "genomics", "tabular")
}
TO_TRACKERS = "nvflare.app_common.widgets.convert_to_fed_event.ConvertToFedEvent"
CONTROLLER = "fedgram.flare.controller.GramController"
TRACKER = "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver"

SITE_CLASSES = (SITE_EXECUTOR, *EXECUTORS.values(), TO_TRACKERS)
SERVER_CLASSES = (CONTROLLER, TRACKER, "nvflare.app_opt.tracking.mlflow.mlflow_receiver.MLflowReceiver")


def executor_of(modality: str) -> dict[str, Any]:
    """The executor of a modality, as FLARE's configuration names it."""
    if modality in EXECUTORS:
        return {"path": EXECUTORS[modality], "args": {}}
    return {"path": SITE_EXECUTOR, "args": {"modality": modality}}


def modality_of(path: str, arguments: Mapping[str, Any]) -> str | None:
    """The modality of an executor in FLARE's configuration; None for any other component."""
    if path == SITE_EXECUTOR:
        return arguments.get("modality")
    return next((modality for modality, executor in EXECUTORS.items() if executor == path), None)
