"""A job on a running federation, from submission to its results: one command, safe to repeat.

The hash of the job's folder names the attempts to run it (FLARE's submit tokens). Repeated, the command follows an
attempt that runs, fetches the results of one that has them, or else makes the next attempt, which goes on after
the last saved round.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from nvflare.apis.utils.job_submit_token import canonical_job_content_hash
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InternalError,
    InvalidJobDefinition,
    JobNotFound,
    NoClientsAvailable,
    NoConnection,
    NoReply,
    SessionClosed,
    SubmitTokenJobDeleted,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session
from rich.console import Console

from fedgram.config.jobfolder import SERVER, client_names, read_server, settings_in
from fedgram.config.mode import MEANING, mode_of
from fedgram.errors import ConfigError, RoundFailed
from fedgram.files import write_text
from fedgram.flare.outbound import listed, place
from fedgram.flare.progress import ABORTED, ENDED, MARK, one_line

T = TypeVar("T")
_POLL_SECONDS = 1.0
_PATIENCE = 600.0  # seconds without a server until the command gives up; it can be repeated
_GATHERING = 120.0  # seconds that a job waits for its sites before it starts; one that comes later takes part too
_FRUITLESS = 3  # attempts in a row without a new round
_ABANDONED = "FINISHED:ABANDONED"  # said of its old jobs by a server that was killed, see fedgram.flare.rejoin
_LOST = (_ABANDONED, "FINISHED:ABNORMAL", "FINISHED:EXECUTION_EXCEPTION")  # a process of the server has died, or …
# … the controller has ended the job and said why, or FLARE could not even begin it.
_BEGINS = rf"^(?:(?!{re.escape(MARK)}).)*"  # a line of the log up to what says it: the rest may be a site's words
_OWN_END = re.compile(rf"{_BEGINS}(?:{re.escape(MARK)} {ENDED}|Exception in workflow \S+:) (.*)", re.MULTILINE)
_ROUND_DONE = re.compile(rf"{_BEGINS}{re.escape(MARK)} round (\d+)/\d+  done in ", re.MULTILINE)
_GO_ON = "repeat the command to go on after the last saved round, with --fresh to begin again"
_WHY = {  # by FLARE's status
    "FINISHED:ABORTED": ("somebody aborted it", _GO_ON),
    "FINISHED:CAN_NOT_SCHEDULE": (
        "it never began: too few of its sites were there, or their GPUs were taken",
        "start the sites, or wait until they are free, then repeat the command",
    ),
    "FINISHED:FAILED_TO_RUN": (
        "it never began: the server or too many sites refused it, as said above",
        "mend that there (`fedgram doctor` says how), then repeat the command",
    ),
}


def run(job: Path, kit: Path, results: Path, console: Console, fresh: bool = False) -> Path:
    """Submit a job, follow it through failures of the server, fetch its results and report on them.

    Args:
        job: the job's folder.
        kit: the startup kit of an admin who may submit jobs.
        results: where the results go, in a folder with the job's id.
        console: shows what the controller says.
        fresh: whether the server forgets what it has saved of the job, and earlier results count for nothing.

    Returns:
        The folder with ``report.txt``.

    Raises:
        ConfigError: job or kit is not what it should be, or a job that is to begin again still runs.
        RoundFailed: the job ended without results, and why; or there is no server.
    """
    results.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=results / "submit.log", force=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    fruitless, furthest = 0, 0
    with _Hub(kit, say) as hub, closing(_attempts(hub, job, results, fresh, say)) as attempts:
        while True:
            attempt = next(attempts)
            say(f"job {attempt}")
            status, log = _follow(hub, attempt, say)
            found = _fetch(hub, attempt, results)
            if found:
                from fedgram.results.report import print_report  # slow to load, and the job comes first

                print_report(json.loads((found / "metrics.json").read_text()), console)
                say(f"\nresults   {found}")
                return found
            done = max(map(int, _ROUND_DONE.findall(log)), default=0)
            fruitless = 0 if done > furthest else fruitless + 1
            furthest = max(furthest, done)
            if failure := _failure(status, log, fruitless, results / attempt):
                raise failure
            say(f"the server lost the job ({status}); it goes on after the last saved round")


def _failure(status: str, log: str, fruitless: int, fetched: Path) -> RoundFailed | None:
    """Find why a job has ended without results; None if the server has lost it, and the next attempt may go on."""
    own_end = _OWN_END.search(log)
    if status in _WHY:
        problem, remedy = _WHY[status]
    elif own_end and ABORTED not in own_end[1]:
        problem, remedy = own_end[1], f"mend what it says, then {_GO_ON}"
    elif status not in _LOST:
        problem, remedy = "FLARE does not say why", f"see {fetched}"
    elif fruitless == _FRUITLESS:
        problem = f"the server lost it {fruitless} times without a new round"
        remedy = f"look at the server's disk, memory and log.txt, and at {fetched}; then {_GO_ON}"
    else:
        return None
    return RoundFailed(f"ended without results ({status}): {problem}", where=f"job {fetched.name}", remedy=remedy)


class _Hub:
    """An admin session that outlives the server: a question is asked again until there is an answer."""

    def __init__(self, kit: Path, say: Callable[[str], None]):
        self._kit, self._say = kit, say
        self._session: Session | None = None
        try:
            self._user = json.loads((kit / "startup/fed_admin.json").read_text())["admin"]["username"]
        except (OSError, ValueError, KeyError) as error:
            problem = f"not the startup kit of an admin ({type(error).__name__})"
            raise ConfigError(problem, where=kit, expected="startup/fed_admin.json") from None

    def __call__(self, question: Callable[[Session], T]) -> T:
        """Ask the server, again if need be, and return its answer.

        Raises:
            ConfigError: the server does not let this user, or not this job.
            RoundFailed: there has been no server for a long time, or it cannot answer.
        """
        lost_at = None
        while True:
            try:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # FLARE says when it connects
                    self._session = self._session or new_secure_session(self._user, str(self._kit))
                    return question(self._session)
            except (NoConnection, SessionClosed) as error:
                self._drop()
                if lost_at is None:
                    self._say("no connection to the server; trying again")
                    lost_at = time.monotonic()
                if time.monotonic() - lost_at > _PATIENCE:
                    raise RoundFailed("no server", where=self._kit, remedy="start it, then repeat") from error
                time.sleep(_POLL_SECONDS)
            except (AuthenticationError, AuthorizationError, InvalidJobDefinition) as error:
                raise ConfigError(str(error), where=self._kit) from None
            except JobNotFound as error:
                remedy = "repeat the command to submit it again: it goes on after the last saved round"
                raise RoundFailed(f"somebody deleted the job ({error})", where=self._kit, remedy=remedy) from None
            except (InternalError, NoReply) as error:
                remedy = "look at the server's log.txt, then repeat the command"
                raise RoundFailed(f"the server cannot answer: {error}", where=self._kit, remedy=remedy) from None

    def _drop(self) -> None:
        """Close without a word to the server: FLARE would wait for an answer of one that is not there."""
        if self._session is not None:
            self._session.api.close()
            self._session = None

    def __enter__(self) -> _Hub:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the session: FLARE's threads keep the interpreter alive until then."""
        if self._session is not None:
            self._session.close()


def _attempts(
    hub: _Hub, job: Path, results: Path, fresh: bool, say: Callable[[str], None]
) -> Generator[str, None, None]:
    """Ids of attempts to run the job: the latest earlier one, if it runs or has results, then new ones.

    Raises:
        ConfigError: one that is to begin again still runs.
    """
    sites, mode = client_names(job), mode_of(settings_in(read_server(job)))
    say(f"mode {mode}: {MEANING[mode]}; of each site without [privacy] leaves")
    say("\n".join(f"  {line}" for line in listed(place(masked=mode == "masked", private=False))))
    content = canonical_job_content_hash(str(job)).removeprefix("sha256:")
    number, former = _latest(hub, content)
    running = former is not None and not _has_ended(hub, former)
    if fresh and running:
        remedy = f"nvflare job abort {former}, then repeat the command"
        raise ConfigError("it still runs", where=f"job {former}", remedy=remedy)
    if former and not fresh and (running or _fetch(hub, former, results)):
        yield former
    with TemporaryDirectory() as temporary:
        folder = _made_fresh(job, Path(temporary, job.resolve().name)) if fresh else job
        while True:
            number += 1
            _gather(hub, sites, former, say)
            # The token keeps a repetition after a lost connection from becoming a second job.
            former = hub(
                lambda session: session.submit_job(str(folder.resolve()), submit_token=f"{content}-{number}")  # noqa: B023
            )
            yield former


def _made_fresh(job: Path, copy: Path) -> Path:
    """Copy a job's folder, with an order to the server to forget what it has saved of such a job."""
    shutil.copytree(job, copy)
    server = read_server(copy)
    server["workflows"][0]["args"]["fresh"] = uuid.uuid4().hex
    write_text(copy / SERVER, json.dumps(server, indent=2) + "\n")
    return copy


def _latest(hub: _Hub, content: str) -> tuple[int, str | None]:
    """Number and job id of the latest attempt; -1 and None when there is none."""
    number, latest = 0, None
    while True:
        try:
            found = hub(lambda session: session.list_jobs(submit_token=f"{content}-{number}"))  # noqa: B023
        except SubmitTokenJobDeleted:
            found = [{"job_id": None}]
        if not found:
            return number - 1, latest
        number, latest = number + 1, found[0]["job_id"]


def _gather(hub: _Hub, sites: list[str], former: str | None, say: Callable[[str], None]) -> None:
    """Wait until the sites are there and have let go of the former attempt, but not for ever."""
    deadline, waiting = time.monotonic() + _GATHERING, set()
    while True:
        try:
            found = hub(lambda session: session.get_client_job_status()) or []
        except NoClientsAvailable:
            found = []
        busy = {entry["client_name"] for entry in found if former and entry.get("job_id") == former}
        away = set(sites) - ({entry["client_name"] for entry in found} - busy)
        if not away or time.monotonic() > deadline:
            return
        if away != waiting:
            waiting = away
            say(f"waiting for {', '.join(sorted(away))}")
        time.sleep(_POLL_SECONDS)


def _has_ended(hub: _Hub, attempt: str) -> bool:
    return hub(lambda session: session.get_job_meta(attempt))["status"].startswith("FINISHED")


def _follow(hub: _Hub, attempt: str, say: Callable[[str], None]) -> tuple[str, str]:
    """Show what the controller says until the job has ended; returns FLARE's status and the server's log.

    Some of it a site has made up: it is shown as words, and not as orders to the terminal.
    """
    said, shown = 0, set()
    while True:
        meta = hub(lambda session: session.get_job_meta(attempt))
        log = hub(lambda session: session.get_job_logs(attempt))["logs"].get("server", "")
        for refusal in [d for d in meta.get("job_deploy_detail") or () if not d.endswith(": OK")]:
            if refusal not in shown:
                say(one_line(refusal))
                shown.add(refusal)
        lines = [line.partition(MARK)[2].strip() for line in log.splitlines() if MARK in line]
        for line in lines[said:]:
            say(one_line(line))
        said = max(said, len(lines))
        if meta["status"].startswith("FINISHED"):
            return meta["status"], log
        time.sleep(_POLL_SECONDS)


def _fetch(hub: _Hub, attempt: str, results: Path) -> Path | None:
    """Download the results of a job that has ended into a folder; None when it has none."""
    found = results / attempt / "workspace" / "fedgram"
    if not (found / "report.txt").is_file():
        shutil.rmtree(results / attempt, ignore_errors=True)
        hub(lambda session: session.download_job_result(attempt, str(results)))
    return found if (found / "report.txt").is_file() else None
