"""Hundreds of inputs that are wrong, huge or hostile: each is a typed error, or rightly accepted, at once.

``PYTHONPATH=custom python tests/test_inputs.py`` counts what becomes of them.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from bad_inputs import GROUPS, Cases, bomb
from fedgram.data import decoding
from fedgram.errors import DataError, FedgramError

SECONDS, BLOCKED = 5.0, 60.0  # of computing, and of waiting on a machine that others use too

# What is unusual and yet right.
ACCEPTED: dict[str, set[str]] = {group: set() for group in GROUPS} | {
    "data": {
        "picture: a picture with a wrong checksum",  # behind the last pixel
        "picture: a directory in the folder",  # a patient's, without pictures
    }
}


class Hang(BaseException):
    """It took more than five seconds."""


@contextmanager
def limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, BLOCKED)}
    before = {kind: signal.signal(kind, stop) for kind in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for kind, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(kind, before[kind])


def outcomes(cases: Cases) -> dict[str, str]:
    """What becomes of each case: ``typed``, ``accepted``, ``hang``, ``ran`` or a traceback's error."""
    found = {}
    for name, case in cases:
        with TemporaryDirectory() as folder:
            found[name] = outcome(case(Path(folder)))
            if Path(folder, "ran").exists():
                found[name] = "ran"
    return found


def outcome(read: Callable[[], object]) -> str:
    try:
        with limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except FedgramError as error:
        return "typed" if error.problem else "empty"
    except Hang:
        return "hang"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:160]
    return "accepted"


@pytest.fixture
def _small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BOMB_BYTES", 2**20)


@pytest.mark.usefixtures("_small_bombs")
@pytest.mark.parametrize("group", GROUPS)
def test_every_bad_input_is_a_typed_error_or_rightly_accepted(group: str):
    found = outcomes(GROUPS[group]())
    wrong = {name: what for name, what in found.items() if what != "typed" and name not in ACCEPTED[group]}
    assert wrong == {}
    assert {name for name, what in found.items() if what == "accepted"} == ACCEPTED[group]


def test_a_bomb_is_not_unpacked_and_a_table_that_packs_well_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "_BOMB_BYTES", 2**20)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(bomb(2**22))
    with pytest.raises(DataError, match=r"(?s)unpacks to 100 times its size and more.*remedy: unpack it"):
        decoding.decode_file(path, "table")
    path.write_bytes(bomb(2**19))  # a thousand times its size, and yet little
    assert len(decoding.decode_file(path, "table")) == 2**19


if __name__ == "__main__":
    for group, cases in GROUPS.items():
        found = outcomes(cases())
        kinds = {what if what in ("typed", "accepted", "hang", "ran") else "traceback" for what in found.values()}
        print(group, len(found), {kind: sum(w == kind for w in found.values()) for kind in sorted(kinds)})
        for name, what in found.items():
            if what != "typed":
                print(f"    {name}: {what}")
