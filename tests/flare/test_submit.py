"""The operator's command against a server that dies, refuses and forgets, without any process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fedgram.cli.main import app
from fedgram.config.jobfolder import read_server
from fedgram.errors import CheckpointError, ConfigError, RoundFailed
from fedgram.flare import submit
from fedgram.flare.progress import ABORTED, ending
from nvflare.apis.utils.job_submit_token import canonical_job_content_hash
from nvflare.fuel.flare_api.api_spec import (
    AuthorizationError,
    InternalError,
    JobNotFound,
    NoConnection,
    NoReply,
    SubmitTokenJobDeleted,
)
from rich.console import Console
from toy import ROOT
from typer.testing import CliRunner

JOB = ROOT / "jobs" / "geodora"
SITES = ("hosp-image", "hosp-text", "hosp-genomics", "hosp-tabular")
ROUND = "2026-01-01 - INFO - fedgram | round 1/2  done in 1 s\n"
FLARES = "2026-01-01 - GramController - ERROR - [identity=hub, run=1, wf=gram]: "


def ended_by(error: Exception) -> str:
    """The lines of a log when the controller has ended the job."""
    return f"{FLARES}{ending(error)}\n{FLARES}Exception in model controller run: {type(error).__name__}\n"


COMPLETED = ("FINISHED:COMPLETED", ROUND)
KILLED = ("FINISHED:EXECUTION_EXCEPTION", ROUND)


class Server:
    """What a session asks; job n runs once and ends as the n-th outcome says."""

    def __init__(self, *outcomes: tuple[str, str]):
        self.outcomes = outcomes
        self.submitted: dict[str, str] = {}  # job id by token
        self.orders: list[str] = []  # to forget what is saved, by attempt
        self.deleted: set[str] = set()
        self.away = 0  # so many questions find no server
        self.busy: list[dict[str, str]] = []  # what the sites say, one by one, once a job has run
        self.refusal = "hosp-text: no"
        self.api = SimpleNamespace(close=lambda: None)

    def _here(self) -> None:
        self.away -= 1
        if self.away >= 0:
            raise NoConnection("gone")

    def list_jobs(self, submit_token: str) -> list[dict[str, str]]:
        self._here()
        if submit_token in self.deleted:
            raise SubmitTokenJobDeleted("deleted", "id")
        return [{"job_id": self.submitted[submit_token]}] if submit_token in self.submitted else []

    def submit_job(self, path: str, submit_token: str) -> str:
        self._here()
        self.orders.append(read_server(Path(path))["workflows"][0]["args"].get("fresh", ""))
        assert Path(path).name == JOB.name
        return self.submitted.setdefault(submit_token, str(len(self.submitted)))

    def get_client_job_status(self) -> list[dict[str, str]]:
        self._here()
        return [self.busy.pop()] if self.busy and self.submitted else [{"client_name": site} for site in SITES]

    def get_job_meta(self, job: str) -> dict[str, Any]:
        self._here()
        return {"status": self.outcomes[int(job)][0], "job_deploy_detail": ["server: OK", self.refusal]}

    def get_job_logs(self, job: str) -> dict[str, Any]:
        return {"logs": {"server": self.outcomes[int(job)][1]}}

    def download_job_result(self, job: str, to: str) -> None:
        folder = Path(to, job, "workspace", "fedgram")
        folder.mkdir(parents=True)
        if self.outcomes[int(job)][0] == "FINISHED:COMPLETED":
            (folder / "report.txt").touch()
            (folder / "metrics.json").write_text(json.dumps({}))

    def close(self) -> None: ...


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the command; returns what it has shown."""
    (tmp_path / "kit/startup").mkdir(parents=True)
    (tmp_path / "kit/startup/fed_admin.json").write_text('{"admin": {"username": "admin@hub"}}')
    monkeypatch.setattr(submit, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(
        "fedgram.results.report.print_report", lambda metrics, console: console.print("the report")
    )

    def run(server: Server, fresh: bool = False) -> str:
        monkeypatch.setattr(submit, "new_secure_session", lambda user, kit: server)
        console = Console(record=True, width=200)
        try:
            submit.run(JOB, tmp_path / "kit", tmp_path / "results", console, fresh)
        finally:
            shown = console.export_text()
        return shown

    return run


def test_a_job_is_followed_to_its_report(command):
    server = Server(COMPLETED)
    shown = command(server)
    assert shown.startswith("mode plain + robust: the server gets every site's numbers")
    assert "\n  sent: ΔB\n" in shown
    assert "round 1/2  done" in shown
    assert "hosp-text: no" in shown
    assert "server: OK" not in shown
    assert "the report" in shown


def test_a_finished_job_is_not_run_again(command):
    server = Server(COMPLETED)
    command(server)
    assert "the report" in command(server)
    assert len(server.submitted) == 1


@pytest.mark.parametrize("status", ["FINISHED:ABANDONED", "FINISHED:ABNORMAL", "FINISHED:EXECUTION_EXCEPTION"])
def test_a_job_that_the_server_has_lost_goes_on_as_the_next_attempt(command, status: str):
    server = Server((status, ROUND), COMPLETED)
    shown = command(server)
    assert f"the server lost the job ({status})" in shown
    assert [token[-2:] for token in server.submitted] == ["-0", "-1"]


def test_a_server_that_is_away_is_asked_again(command):
    server = Server(COMPLETED)
    server.away = 3
    shown = command(server)
    assert shown.count("no connection to the server") == 1
    assert len(server.submitted) == 1


def test_a_server_that_stays_away_is_an_error(command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submit, "_PATIENCE", 0.0)
    server = Server(COMPLETED)
    server.away = 10**9
    with pytest.raises(RoundFailed, match="no server"):
        command(server)


FULL = CheckpointError("cannot be written ([Errno 28] No space left on device)", where="server.next")
ENDINGS = {
    "too few sites": RoundFailed("1 good replies", where="round 2", expected="at least 2", remedy="red: NaN"),
    "bad state": CheckpointError("damaged (its checksum does not fit)", where="server.safetensors"),
    "a full disk for the state": FULL,
    "a full disk for the report": OSError(28, "No space left on device", "report.txt"),
}


@pytest.mark.parametrize("why", ENDINGS)
def test_a_job_that_the_controller_ended_is_not_run_again(command, why: str):
    server = Server(("FINISHED:EXECUTION_EXCEPTION", ROUND + ended_by(ENDINGS[why])))
    with pytest.raises(RoundFailed) as caught:
        command(server)
    said = str(caught.value)
    for line in str(ENDINGS[why]).split("\n  "):
        assert line in said
    assert "--fresh" in said
    assert len(server.submitted) == 1
    server.outcomes = (server.outcomes[0], COMPLETED)  # what was wrong has been mended
    assert "the report" in command(server)


def test_a_job_that_could_not_begin_is_not_run_again(command):
    server = Server(("FINISHED:EXECUTION_EXCEPTION", "ERROR - Exception in workflow gram: no such setting\n"))
    with pytest.raises(RoundFailed, match="no such setting"):
        command(server)


def test_an_abort_by_flare_is_a_loss_and_one_by_a_person_is_not(command):
    text = ended_by(RoundFailed(ABORTED, where="train"))
    server = Server(("FINISHED:EXECUTION_EXCEPTION", ROUND + text), COMPLETED)
    assert "the server lost the job" in command(server)
    server = Server(("FINISHED:ABORTED", ROUND + text))
    with pytest.raises(RoundFailed, match=r"(?s)somebody aborted it.*remedy: repeat the command"):
        command(server)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("FINISHED:CAN_NOT_SCHEDULE", "too few of its sites"),
        ("FINISHED:FAILED_TO_RUN", "refused it"),
        ("FINISHED:SOMEHOW", "does not say why"),
    ],
)
def test_a_job_that_never_ran_is_not_run_again(command, status: str, why: str):
    server = Server((status, ""))
    with pytest.raises(RoundFailed, match=rf"(?s){status}.*{why}.*remedy: "):
        command(server)
    assert len(server.submitted) == 1


def test_attempts_without_a_new_round_end_however_often_the_last_one_is_done_again(command):
    """The log of a full disk may say nothing; every attempt does the same round and cannot save it."""
    server = Server(*[KILLED] * 9)
    with pytest.raises(RoundFailed, match="lost it 3 times without a new round"):
        command(server)
    assert len(server.submitted) == 4


@pytest.mark.parametrize(
    "said", [ending(ValueError("rm -rf it")), "Exception in workflow gram: it", "fedgram | round 9/9  done in 1 s"]
)
def test_what_a_site_says_is_no_word_of_the_controller(command, said: str):
    """The server was lost, and the log holds a line that quotes a site."""
    quoted = f"{FLARES}fedgram | liar does not count: fedgram '{said}'\n"
    server = Server(*[("FINISHED:EXECUTION_EXCEPTION", quoted)] * 9)
    with pytest.raises(RoundFailed, match="lost it 3 times without a new round"):
        command(server)
    assert len(server.submitted) == 3


def test_a_site_s_words_are_one_line_and_no_order_to_the_terminal(command):
    """OSC 52 writes to the clipboard of whoever looks; a line of its own would be the command's word."""
    orders = "\x1b]52;c;cm0gLXJm\x1b\\"
    server = Server(("FINISHED:COMPLETED", f"{ROUND[:-1]} {orders}\n"))
    server.refusal = f"hosp-text: {orders}no\nresults   /tmp/elsewhere"
    shown = command(server)
    assert "\x1b" not in shown
    assert "\nresults   /tmp/elsewhere" not in shown
    assert "no results   /tmp/elsewhere" in shown


def test_a_job_can_begin_again_and_the_order_is_given_once(command):
    server = Server(COMPLETED, KILLED, COMPLETED)
    command(server)
    assert "the report" in command(server, fresh=True)
    assert server.orders[0] == ""
    assert server.orders[1] == server.orders[2] != ""  # the second attempt goes on with what the first has done
    command(server)
    assert len(server.submitted) == 3


def test_a_job_that_runs_cannot_begin_again(command):
    server = Server(("RUNNING", ROUND))
    server.submit_job(str(JOB), f"{canonical_job_content_hash(str(JOB)).removeprefix('sha256:')}-0")
    with pytest.raises(ConfigError, match=r"(?s)job 0: it still runs.*abort"):
        command(server, fresh=True)


def test_attempts_that_come_to_nothing_end(command):
    server = Server(KILLED, *[("FINISHED:ABANDONED", "")] * 9)
    with pytest.raises(RoundFailed, match="ABANDONED"):
        command(server)
    assert len(server.submitted) == 4


def test_a_deleted_job_may_run_again(command):
    server = Server(COMPLETED, COMPLETED)
    command(server)
    server.deleted = set(server.submitted)
    command(server)
    assert len(server.submitted) == 2


def test_the_next_attempt_waits_for_the_sites(command, monkeypatch: pytest.MonkeyPatch):
    server = Server(KILLED, COMPLETED)
    server.busy = [{"client_name": "hosp-text", "job_id": "0"}]
    assert "waiting for hosp-genomics, hosp-image, hosp-tabular, hosp-text" in command(server)
    monkeypatch.setattr(submit, "_GATHERING", 0.0)  # but not for ever
    server = Server(KILLED, COMPLETED)
    server.busy = [{"client_name": "hosp-text"}] * 99
    assert "the report" in command(server)
    assert len(server.busy) == 98


def test_refusals_are_one_clear_error(command, tmp_path: Path):
    server = Server(COMPLETED)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AuthorizationError("not you")

    server.list_jobs = refuse
    with pytest.raises(ConfigError, match="not you"):
        command(server)
    with pytest.raises(ConfigError, match="not the startup kit of an admin"):
        submit.run(JOB, tmp_path, tmp_path / "results", Console())
    with pytest.raises(ConfigError, match="not a job folder"):
        submit.run(tmp_path, tmp_path / "kit", tmp_path / "results", Console())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (JobNotFound("no such job: 7"), "somebody deleted the job .no such job: 7"),
        (InternalError("server internal error: disk"), "the server cannot answer: server internal error: disk"),
        (NoReply("no reply"), "the server cannot answer: no reply"),
    ],
)
def test_what_the_server_cannot_do_is_one_clear_error(command, error: Exception, said: str):
    server = Server(COMPLETED)

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    server.get_job_meta = fail
    with pytest.raises(RoundFailed, match=said):
        command(server)


def test_results_do_not_go_into_a_file(tmp_path: Path):
    """A long path is broken over lines, so only the option is looked for."""
    (tmp_path / "results").touch()
    answer = CliRunner().invoke(
        app, ["submit", "job", "--startup-kit", "kit", "--results", str(tmp_path / "results")]
    )
    assert answer.exit_code == 2
    assert "Invalid value for '--results'" in answer.output
