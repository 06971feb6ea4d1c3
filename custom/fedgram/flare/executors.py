"""The site's side of the FLARE job: thin Executors over a :class:`~fedgram.training.session.SiteSession`."""

from __future__ import annotations

from pathlib import Path

from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.widgets.streaming import create_analytic_dxo, send_analytic_dxo
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedgram import modalities
from fedgram.errors import ConfigError, FedgramError
from fedgram.flare import wire
from fedgram.sitefile import find_site_config
from fedgram.training.session import SiteSession
from fedgram.training.site import open_site


class SiteExecutor(Executor):
    """Answers the controller's tasks with what the site's session computes.

    The job only names the modality. Where the data are is read from the site's own file:
    ``local/fedgram/<site>.toml``, else ``local/fedgram.toml``, in the site's workspace.

    Args:
        modality: must be the one that the site file declares.
    """

    def __init__(self, modality: str):
        super().__init__()
        self.modality = modality
        self._session: SiteSession | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tensors must be known to FLARE's serialiser before the first of them travels."""
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Run one task; an error becomes an error reply that names its kind, its text stays at the site."""
        if task_name not in wire.TASKS:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            task = FLModelUtils.from_shareable(shareable)
            reply = self._answer(task_name, task, fl_ctx)
        except FedgramError as error:
            self.log_error(fl_ctx, f"{type(error).__name__}: {error}", fire_event=False)
            return _error_reply(type(error).__name__)
        except Exception as error:
            self.log_exception(fl_ctx, f"task {task_name!r} failed", fire_event=False)
            return _error_reply(type(error).__name__)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        return FLModelUtils.to_shareable(reply)

    def _answer(self, task_name: str, task: FLModel, fl_ctx: FLContext) -> FLModel:
        session = self._session or self._open(task, fl_ctx)
        if task_name == wire.INTRODUCE:
            return wire.encode_introduction(session.introduce())
        if task_name == wire.ALONE:
            return wire.encode_evaluation(session.alone())
        run, state = wire.decode_state(task)
        if task_name == wire.EVALUATE:
            return wire.encode_evaluation(session.evaluate(run, state))
        update = session.train(run, state)
        for name, value in update.metrics.items():
            dxo = create_analytic_dxo(name, value, AnalyticsDataType.SCALAR, global_step=update.round)
            send_analytic_dxo(self, dxo, fl_ctx)
        return wire.encode_update(update)

    def _open(self, task: FLModel, fl_ctx: FLContext) -> SiteSession:
        workspace = wire.workspace_of(fl_ctx)
        name = str(fl_ctx.get_identity_name())
        config = find_site_config(Path(workspace.get_site_config_dir()), name)
        declared = modalities.load(config.modality).name
        if declared != self.modality:
            raise ConfigError(f"modality {declared!r}", where=name, expected=f"{self.modality!r} as in the job")
        folder = config.state or str(Path(workspace.get_root_dir(), "fedgram"))
        site = open_site(name, config, wire.decode_job(task))
        self._session = SiteSession(site, Path(folder).expanduser() / name)
        return self._session


def _error_reply(kind: str) -> Shareable:
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply.set_header(wire.ERROR_HEADER, kind)
    return reply


class ImageExecutor(SiteExecutor):
    """A site with images."""

    def __init__(self) -> None:
        super().__init__("image")


class TextExecutor(SiteExecutor):
    """A site with texts."""

    def __init__(self) -> None:
        super().__init__("text")


class GenomicsExecutor(SiteExecutor):
    """A site with DNA."""

    def __init__(self) -> None:
        super().__init__("genomics")


class TabularExecutor(SiteExecutor):
    """A site with tables."""

    def __init__(self) -> None:
        super().__init__("tabular")
