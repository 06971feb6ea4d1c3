"""The return of lost sites: one does not end a job, and takes part in it again when it is back.

FLARE 2.9.0 fails the whole job when one site's job process dies, and it has no way back into a running job:
a restarted site registers under a new token that the job does not know. :class:`Rejoin` closes both gaps. It runs
in the *server's* parent process; the server's ``resources.json`` names it among its components::

    {"id": "rejoin", "path": "fedgram.flare.rejoin.Rejoin", "args": {}}

It also removes the saved state of a job that is complete, once FLARE has packed its results.

With every heartbeat a site sends the ids of its running jobs. Where a job is missing that should run there, it is
started again, under the token that the site has now. Jobs of other packages are left alone.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, RunProcessKey, ServerCommandKey, SystemComponents
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import Job
from nvflare.apis.job_scheduler_spec import DispatchInfo
from nvflare.apis.storage import WORKSPACE
from nvflare.fuel.f3.message import Message
from nvflare.private.admin_defs import MsgHeader, ReturnCode
from nvflare.private.defs import (
    ERROR_MSG_PREFIX,
    CellChannel,
    CellChannelTopic,
    CellMessageHeaderKeys,
    TrainingTopic,
)
from nvflare.private.fed.server.job_runner import JobRunner
from nvflare.utils.job_launcher_utils import get_resource_manager_spec

from fedgram.config.server import read_server_config
from fedgram.config.state import state_folder
from fedgram.training.checkpoint import Checkpoint, forget_complete

_TOPIC = "fedgram.rejoin"  # of the command by which the server tells its job process that a site returns
_FIRST_DELAY, _LONGEST_DELAY = 10.0, 600.0  # seconds between attempts to start a site that keeps failing
_REPLY_SECONDS = 20.0


class Rejoin(FLComponent):
    """A component that starts a running fedgram job at the sites that have lost it, or came too late for it."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="rejoin")
        self._attempts: dict[
            tuple[str, str], tuple[float, float]
        ] = {}  # last, seconds until the next; by job and site

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin with the server; from then on look at heartbeats, commands to the sites, and jobs that end."""
        engine: Any = fl_ctx.get_engine()  # a ServerEngine; FLARE's annotations say None of what it holds
        if event_type == EventType.SYSTEM_START:
            # The jobs of a server that was killed say RUNNING for ever, and nobody could end or delete them.
            engine.job_runner.update_unfinished_jobs(fl_ctx)
            cell = engine.get_cell().core_cell
            cell.add_incoming_request_filter(
                CellChannel.SERVER_MAIN, CellChannelTopic.HEART_BEAT, self._heartbeat, engine
            )
            cell.add_incoming_reply_filter(CellChannel.CLIENT_MAIN, "admin", _soften_refusal, engine)
        elif event_type == EventType.BEFORE_SEND_ADMIN_COMMAND:
            _let_the_controller_judge(engine)
        elif event_type == EventType.JOB_COMPLETED:
            job_id = str(fl_ctx.get_prop(FLContextKey.CURRENT_JOB_ID))
            if WORKSPACE in engine.get_component(SystemComponents.JOB_MANAGER).list_components(job_id, fl_ctx):
                forget_complete(states_of(engine.get_workspace()), job_id)
        elif event_type == EventType.SYSTEM_END:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _heartbeat(self, message: Message, engine: Any) -> None:
        """Look for jobs that a site should run and does not. To return anything would swallow the heartbeat."""
        client = engine.client_manager.clients.get(message.get_header(CellMessageHeaderKeys.TOKEN))
        running = message.get_header(CellMessageHeaderKeys.JOB_IDS) or ()
        if client is None:
            return
        for job in list(engine.job_runner.running_jobs.values()):
            if (
                job.job_id not in running
                and _takes_part(engine, job, client.name)
                and self._is_due(job, client.name)
            ):
                self._pool.submit(self._start, engine, job, client)

    def _is_due(self, job: Job, site: str) -> bool:
        """Whether to try now; a site that fails again and again is tried ever more rarely."""
        last, delay = self._attempts.get((job.job_id, site), (float("-inf"), _FIRST_DELAY / 2))
        if time.monotonic() - last < delay:
            return False
        self._attempts[job.job_id, site] = (time.monotonic(), min(2 * delay, _LONGEST_DELAY))
        return True

    def _start(self, engine: Any, job: Job, client: Client) -> None:
        with engine.new_context() as fl_ctx:
            try:
                outcome = _start_again(engine, job, client, fl_ctx)
            except Exception as error:  # in a thread of its own: nobody else would tell
                outcome = f"{type(error).__name__}: {error}"
            self.log_warning(fl_ctx, f"{client.name} does not run job {job.job_id}: {outcome}", fire_event=False)


def _let_the_controller_judge(engine: Any) -> None:
    """Empty FLARE's list of sites whose exit codes decide over the job.

    FLARE fills it just before it sends the command to start the job. It drops reports of sites that are not on it.
    """
    for job_id in engine.job_runner.get_client_outcome_jobs():
        if _is_fedgram(engine, job_id):
            for client in _participants(engine, job_id).values():
                engine.job_runner.resolve_client_outcome(job_id, client.name)


def _soften_refusal(message: Message, engine: Any) -> None:
    """Reword a site's refusal to start a job, by which FLARE would end the job for all."""
    answer = message.payload
    if getattr(answer, "topic", None) != f"reply_{TrainingTopic.START_JOB}":
        return
    starting = set(engine.run_processes) - set(engine.job_runner.running_jobs)
    if all(_is_fedgram(engine, job_id) for job_id in starting):
        answer.body = str(answer.body).replace(ERROR_MSG_PREFIX, "refused")


def _start_again(engine: Any, job: Job, client: Client, fl_ctx: FLContext) -> str:
    """Make the job know the site's token, then start it there; returns what came of it."""
    # FLARE tells the job of a site's loss only when it has seen the site run it; one may fail before that.
    engine.notify_dead_job(job.job_id, client.name, "not running there")
    before = _participants(engine, job.job_id)
    others = {token: other for token, other in before.items() if other.name != client.name}
    engine.run_processes[job.job_id][RunProcessKey.PARTICIPANTS] = {**others, client.token: client}
    known = engine.send_app_command(job.job_id, _TOPIC, {}, timeout=_REPLY_SECONDS)
    if not (known and known.get(ServerCommandKey.DATA)):
        return "the job is over"
    if len(others) == len(before) and (refusal := _deploy(engine, job, client, fl_ctx)):
        return f"not deployed there ({refusal})"
    needs = get_resource_manager_spec(job.meta, client.name)
    enough, token = engine.check_client_resources(job, {client.name: needs}, fl_ctx).get(client.name, (False, ""))
    if not enough:
        return f"not enough resources there ({token or 'no answer'})"
    dispatch = DispatchInfo(app_name="", resource_requirements=needs, token=token)
    replies = engine.start_client_job(job, {client.name: dispatch}, fl_ctx)
    return str(replies[0].reply.body) if replies and replies[0].reply else "no answer to the command to start it"


def _deploy(engine: Any, job: Job, client: Client, fl_ctx: FLContext) -> str:
    """Send the job's app to a site that was not there when the job began; returns why it was refused, if so."""
    app = job.get_application_name(client.name)
    message = JobRunner._make_deploy_message(job, job.get_application(app, fl_ctx), app, fl_ctx)
    admin = engine.server.admin_server
    answer = admin.send_request_to_client(message, client.token, timeout_secs=_REPLY_SECONDS)
    if answer is None or answer.reply is None:
        return "no answer"
    return (
        "" if answer.reply.get_header(MsgHeader.RETURN_CODE, ReturnCode.OK) == ReturnCode.OK else answer.reply.body
    )


def _takes_part(engine: Any, job: Job, site: str) -> bool:
    process = engine.run_processes.get(job.job_id)
    return (
        process is not None
        and not process.get(RunProcessKey.PROCESS_FINISHED)
        and job.get_application_name(site) is not None
        and _is_fedgram(engine, job.job_id)
    )


def _participants(engine: Any, job_id: str) -> dict[str, Client]:
    return engine.run_processes.get(job_id, {}).get(RunProcessKey.PARTICIPANTS) or {}


def _is_fedgram(engine: Any, job_id: str) -> bool:
    config = Path(engine.get_workspace().get_app_config_dir(job_id), "config_fed_server.json")
    return config.is_file() and '"fedgram.' in config.read_text()


def states_of(workspace: Any) -> Path:
    """The folder of the saved rounds of all jobs, as the server's own file says.

    Raises:
        ConfigError: that file cannot be read.
    """
    own = read_server_config(Path(workspace.get_site_config_dir(), "fedgram", "server.toml"))
    return state_folder(own.state, Path(workspace.get_root_dir(), "checkpoints"))


def complete(saved: Checkpoint, workspace: Any, job_id: str) -> None:
    """Leave the state of a run that is complete to the server's parent, or remove it where no parent would."""
    resources = Path(workspace.get_site_config_dir(), "resources.json")
    if resources.is_file() and f"{Rejoin.__module__}.{Rejoin.__qualname__}" in resources.read_text():
        saved.complete(job_id)
    else:
        saved.finish()


def accept_returning_sites(fl_ctx: FLContext) -> None:
    """Let the controller's job process learn the tokens of returning sites, as long as it runs."""
    engine: Any = fl_ctx.get_engine()
    engine.register_app_command(_TOPIC, _learn_tokens)


def _learn_tokens(topic: str, data: Any, fl_ctx: FLContext) -> dict[str, list[str]]:
    """Learn new tokens of the job's sites and return their names; none when the job is over."""
    runner: Any = fl_ctx.get_prop(FLContextKey.RUNNER)
    if runner.status != "started":
        return {}
    engine: Any = fl_ctx.get_engine()
    engine.sync_clients_from_main_process()
    return {"sites": [client.name for client in engine.get_clients()]}
