"""Where the server starts a job again, and when; on real processes in tests/federation/test_failures.py."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.flare import rejoin
from fedgram.training.checkpoint import Checkpoint
from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, RunProcessKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import job_from_meta
from nvflare.fuel.f3.message import Message
from nvflare.private.admin_defs import Message as AdminMessage
from nvflare.private.defs import ERROR_MSG_PREFIX, CellMessageHeaderKeys
from nvflare.private.fed.server.admin import check_client_replies
from nvflare.private.fed.server.message_send import ClientReply

JOB = job_from_meta({"job_id": "j", "name": "toy", "deploy_map": {"app_server": ["server"], "app_red": ["red"]}})


class Engine(SimpleNamespace):
    """A server with one running job, in which red takes part; remembers what is started and resolved."""

    def __init__(self, folder: Path, controller: str = "fedgram.flare.controller.GramController"):
        (folder / "config_fed_server.json").write_text(f'{{"path": "{controller}"}}')
        self.resolved: list[tuple[str, str]] = []
        super().__init__(
            client_manager=SimpleNamespace(
                clients={"new": Client("red", "new"), "other": Client("green", "other")}
            ),
            run_processes={"j": {RunProcessKey.PARTICIPANTS: {"old": Client("red", "old")}}},
            job_runner=SimpleNamespace(
                running_jobs={"j": JOB},
                get_client_outcome_jobs=lambda: {"j"},
                resolve_client_outcome=lambda job, site: self.resolved.append((job, site)),
            ),
            get_workspace=lambda: SimpleNamespace(get_app_config_dir=lambda job: str(folder)),
        )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sites at which a job is started again."""
    sites: list[str] = []
    monkeypatch.setattr(rejoin.Rejoin, "_start", lambda self, engine, job, client: sites.append(client.name))
    return sites


def beat(component: rejoin.Rejoin, engine: Engine, token: str, running: list[str]) -> None:
    headers = {CellMessageHeaderKeys.TOKEN: token, CellMessageHeaderKeys.JOB_IDS: running}
    assert component._heartbeat(Message(headers), engine) is None  # anything else would swallow the heartbeat
    component._pool.submit(lambda: None).result()


def test_a_site_without_the_job_it_takes_part_in_is_started_once(tmp_path: Path, started: list[str]):
    component, engine = rejoin.Rejoin(), Engine(tmp_path)
    beat(component, engine, "new", running=["j"])
    beat(component, engine, "unknown", running=[])
    beat(component, engine, "other", running=[])  # not in the deploy map
    assert started == []
    beat(component, engine, "new", running=[])
    beat(component, engine, "new", running=[])  # the first attempt has not had its time
    component._pool.shutdown()
    assert started == ["red"]


def test_other_packages_jobs_and_jobs_that_end_are_left_alone(tmp_path: Path, started: list[str]):
    component = rejoin.Rejoin()
    foreign = Engine(tmp_path, "nvflare.app_common.workflows.fedavg.FedAvg")
    beat(component, foreign, "new", running=[])
    rejoin._let_the_controller_judge(foreign)
    assert foreign.resolved == []
    ending = Engine(tmp_path)
    ending.run_processes["j"][RunProcessKey.PROCESS_FINISHED] = True
    beat(component, ending, "new", running=[])
    ending.run_processes.clear()
    beat(component, ending, "new", running=[])
    component._pool.shutdown()
    assert started == []


def test_attempts_become_rarer(monkeypatch: pytest.MonkeyPatch):
    component, now = rejoin.Rejoin(), 0.0
    monkeypatch.setattr(rejoin.time, "monotonic", lambda: now)
    tries = []
    for now in range(0, 4000, 10):
        tries += [now] if component._is_due(JOB, "red") else []
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps[:4] == [10, 20, 40, 80]
    assert max(gaps) == 600
    assert component._is_due(JOB, "green")


def test_a_site_that_refuses_a_job_for_weeks_is_heard_as_before(monkeypatch: pytest.MonkeyPatch):
    """An error here swallows the heartbeat, and FLARE takes the site for gone in all its jobs."""
    component, now = rejoin.Rejoin(), 0.0
    monkeypatch.setattr(rejoin.time, "monotonic", lambda: now)
    tries = []
    for now in range(0, 21 * 86_400, 600):
        tries += [now] if component._is_due(JOB, "red") else []
    assert len(tries) == 21 * 144


def test_a_site_that_refuses_to_start_does_not_end_the_job(tmp_path: Path):
    """`check_client_replies` is what FLARE ends the job by."""

    def check(engine: Engine) -> None:
        answer = AdminMessage(topic="reply_train.start_job", body=f"{ERROR_MSG_PREFIX}: no GPU")
        rejoin._soften_refusal(Message(payload=answer), engine)
        check_client_replies([ClientReply("new", "red", None, answer)], ["red"], "start job")

    engine = Engine(tmp_path)
    engine.job_runner.running_jobs.clear()  # it is being started
    check(engine)
    foreign = Engine(tmp_path, "nvflare.app_common.workflows.fedavg.FedAvg")
    foreign.job_runner.running_jobs.clear()
    with pytest.raises(RuntimeError, match="no GPU"):
        check(foreign)
    for other in (AdminMessage(topic="reply_train.deploy", body=f"{ERROR_MSG_PREFIX}: no"), None, "garbage"):
        message = Message(payload=other)
        rejoin._soften_refusal(message, engine)
        assert message.payload is other
        assert getattr(other, "body", "").startswith(ERROR_MSG_PREFIX) == isinstance(other, AdminMessage)


def test_no_site_s_exit_code_decides_over_the_job(tmp_path: Path):
    engine, fl_ctx = Engine(tmp_path), FLContext()
    fl_ctx.set_prop(FLContextKey.PROCESS_TYPE, "parent", private=True)
    fl_ctx.get_engine = lambda *args, **kwargs: engine
    rejoin.Rejoin().handle_event(EventType.BEFORE_SEND_ADMIN_COMMAND, fl_ctx)
    assert engine.resolved == [("j", "red")]


@pytest.mark.parametrize("packed", [True, False])
def test_the_state_of_a_complete_job_goes_once_its_results_are_packed(tmp_path: Path, packed: bool):
    """FLARE says COMPLETED also of a job whose results it could not pack."""
    local, folder = tmp_path / "local", tmp_path / "checkpoints" / "a"
    local.mkdir()
    folder.mkdir(parents=True)
    workspace = SimpleNamespace(get_site_config_dir=lambda: str(local), get_root_dir=lambda: str(tmp_path))
    saved = Checkpoint(folder, JobConfig(AnchorPin("0" * 64, tuple("aabb"))))
    (folder / "server.safetensors").touch()
    rejoin.complete(saved, workspace, "j")
    assert not list(folder.iterdir())  # nobody else would remove it
    (folder / "server.safetensors").touch()
    (local / "resources.json").write_text('{"components": [{"path": "fedgram.flare.rejoin.Rejoin"}]}')
    rejoin.complete(saved, workspace, "j")
    assert (folder / "server.safetensors").exists()
    store = SimpleNamespace(list_components=lambda job, fl_ctx: ["meta", *(["workspace"] if packed else [])])
    engine = SimpleNamespace(get_workspace=lambda: workspace, get_component=lambda name: store)
    fl_ctx = FLContext()
    fl_ctx.set_prop(FLContextKey.CURRENT_JOB_ID, "j")
    fl_ctx.get_engine = lambda: engine
    rejoin.Rejoin().handle_event(EventType.JOB_COMPLETED, fl_ctx)
    assert bool(list(folder.iterdir())) is not packed
