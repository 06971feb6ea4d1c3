"""The server's state on disk: saved after every round, verified when it is read, with the one before in reserve.

``server.safetensors`` holds the state after the last round and ``server.previous.safetensors`` the one before. The
records of the rounds are lines of ``records.jsonl`` and once more of ``records.copy.jsonl``, so that a round costs
the same however many came before. Each line names the line before by its sha256, and the state names the last one:
whatever else stands in the files (half a line, a round that was done again) does not belong to it.
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from fedgram.config.job import JobConfig
from fedgram.errors import CheckpointError
from fedgram.files import append, read_tensors, try_lock, write_tensors, write_text
from fedgram.records import RoundRecord
from fedgram.training.codec import ErrorOf, pack, unpack
from fedgram.training.server import ServerState

_STATES = tuple(f"server{part}.safetensors" for part in ("", ".previous", ".next", ".damaged"))
_RECORDS = "records.jsonl", "records.copy.jsonl"
_COMPLETE = "complete"  # holds the id of the job whose run is
_FORMAT = 6  # counts up whenever a record that is part of the state gets other fields


class Checkpoint:
    """The saved state of the unfinished run of one job in one folder.

    Args:
        folder: of this job's state alone.
        job: whose settings the state must be of.
    """

    def __init__(self, folder: Path, job: JobConfig):
        self._folder, self._job = folder, job
        self._newest, self._previous, self._next, self._damaged = (folder / name for name in _STATES)
        self._records = tuple(folder / name for name in _RECORDS)
        self._lock = folder.with_name(f"{folder.name}.lock")  # not inside: the folder may be removed
        self._remedy = f"restore it from a backup, or delete {folder} to start afresh"
        self._written, self._last = 0, ""  # records that are on disk, and the sha256 of the last one's line
        self._set_aside = self._previous  # what becomes of the newest file when there is a newer one

    def claim(self) -> bool:
        """Take the saved state for this run, as long as it lives; False while another of the same job has it.

        Two at once would go on from each other's rounds, and remove each other's files.

        Raises:
            CheckpointError: no lock can be written.
        """
        give_back = try_lock(self._lock)
        if give_back is not None:
            weakref.finalize(self, give_back)
        return give_back is not None

    def save(self, state: ServerState) -> None:
        """Add a round to the saved state; a crash or a full disk leaves the last good one intact.

        Raises:
            CheckpointError: it cannot be written.
        """
        last, lines = self._last, []
        for record in state.records[self._written :]:
            line = json.dumps({"before": last, "record": pack(record)[1]}).encode()
            last = sha256(line).hexdigest()
            lines.append(b"\n" + line + b"\n")
        for path in self._records:
            append(path, b"".join(lines))
        _remove_parts(self._folder)
        tensors, facts = pack(replace(state, records=()))
        saved = {"format": _FORMAT, "job": self._job.fingerprint(), "facts": facts, "last": last}
        write_tensors(self._next, tensors, {"fedgram": json.dumps(saved)})
        if self._newest.exists():
            os.replace(self._newest, self._set_aside)
        os.replace(self._next, self._newest)
        self._written, self._last, self._set_aside = len(state.records), last, self._previous

    def load(self) -> ServerState | None:
        """Read the last good state of an unfinished run of the same job, or None; nothing is changed on disk.

        Raises:
            CheckpointError: there is none that is intact, of this version and of a job with these settings.
        """
        if not self._newest.exists():  # at the start, or cut between the two renamings
            return self._read(self._previous) if self._previous.exists() else None
        try:
            return self._read(self._newest)
        except CheckpointError as fault:
            with suppress(CheckpointError):
                state = self._read(self._previous)
                self._set_aside = self._damaged
                note = (
                    f"{self._newest.name}: {fault.problem}; went on from the state after round {state.state.round}"
                )
                return replace(state, notes=(*state.notes, note))
            raise

    def forget(self, order: str) -> None:
        """Forget what was saved of this job, once for every order: the job that brings it may be run again.

        Raises:
            CheckpointError: it cannot be written that the order was carried out.
        """
        mark = self._folder / "forgotten"
        if mark.is_file() and mark.read_bytes() == order.encode():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        append(mark, order.encode())

    def complete(self, job_id: str) -> None:
        """Note that a run is complete; :func:`forget_complete` removes its state once the results are safe."""
        write_text(self._folder / _COMPLETE, job_id)

    def finish(self) -> None:
        """Forget the saved state of a run that has completed, and whose results are safe."""
        _remove_state(self._folder)

    def _read(self, path: Path) -> ServerState:
        error = partial(CheckpointError, where=path, remedy=self._remedy)
        tensors, metadata = read_tensors(path, self._remedy)
        try:
            saved = json.loads(metadata["fedgram"])
            version, fingerprint, facts = saved.get("format"), saved.get("job"), saved.get("facts")
        except (KeyError, ValueError, AttributeError) as fault:
            raise error(f"damaged ({fault})") from fault
        if version != _FORMAT:
            raise error("saved by another version of fedgram", expected=f"format {_FORMAT}")
        if fingerprint != self._job.fingerprint():
            raise error("saved by a job with other settings")
        state = unpack(ServerState, tensors, facts, error)
        records, notes = self._read_records(saved.get("last"), error)
        return replace(state, records=records, notes=(*state.notes, *notes))

    def _read_records(self, last: str, error: ErrorOf) -> tuple[tuple[RoundRecord, ...], list[str]]:
        """The records up to the one whose line has the sha256 ``last``, and what is wrong with the files."""
        copies = [_lines(path) for path in self._records]
        records: list[RoundRecord] = []
        wanted, incomplete = last, set()
        while wanted:
            held = [lines.get(wanted) for lines in copies]
            line = next((line for line in held if line is not None), None)
            if line is None:
                raise error("the record of a round is damaged or missing in both of its copies")
            incomplete |= {path.name for path, line in zip(self._records, held, strict=True) if line is None}
            entry = json.loads(line)
            records.append(unpack(RoundRecord, {}, entry["record"], error))
            wanted = entry["before"]
        # An incomplete copy is made whole by writing every record again with the next round.
        self._written, self._last = (0, "") if incomplete else (len(records), last)
        notes = [f"{name}: damaged; the records were read from its copy" for name in sorted(incomplete)]
        return tuple(reversed(records)), notes


def forget_complete(states: Path, job_id: str) -> None:
    """Remove the state that the run of a job has left as complete, among the folders of all jobs' state."""
    for mark in states.glob(f"*/{_COMPLETE}"):
        if mark.read_text(encoding="utf-8") == job_id:
            _remove_state(mark.parent)


def _remove_state(folder: Path) -> None:
    """Remove a saved state; the newest goes after those that it must outlive, and what says so last."""
    newest, *others = _STATES
    for name in (*others, newest, *_RECORDS, _COMPLETE):
        (folder / name).unlink(missing_ok=True)
    _remove_parts(folder)


def _remove_parts(folder: Path) -> None:
    """Remove what was left half written by a process that was killed: a whole state each."""
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)


def _lines(path: Path) -> dict[str, bytes]:
    """The lines of a file by their sha256; none of a file that is not there."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return {sha256(line).hexdigest(): line for line in lines}
