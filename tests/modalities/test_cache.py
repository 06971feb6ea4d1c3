"""The token cache: same tokens, never computed twice, safe for several processes, never fatal."""

from __future__ import annotations

import logging
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from fedgram.errors import CheckpointError, DataError
from fedgram.modalities.cache import cached_tokens
from fedgram.records import Tokens


class Slow:
    """Token = length of the content; counts its calls."""

    width = 2

    def __init__(self, identity: str = "slow:1", seconds: float = 0.0):
        self.identity, self.seconds, self.calls = identity, seconds, 0

    def __call__(self, contents):
        self.calls += 1
        time.sleep(self.seconds)
        values = torch.tensor([[[float(len(c)), 1.0]] * 3 for c in contents])
        return Tokens(values, torch.ones(len(contents), 3, dtype=torch.bool))


def _cached(tokenizer, contents, folder):
    return cached_tokens(tokenizer, contents, [c.encode() for c in contents], folder)


def _equal(a: Tokens, b: Tokens) -> bool:
    return torch.equal(a.values, b.values) and torch.equal(a.mask, b.mask)


def test_second_read_is_equal_and_does_not_tokenise(tmp_path):
    tokenizer, contents = Slow(seconds=0.05), ["a" * n for n in range(1, 200)]
    start = time.perf_counter()
    first = _cached(tokenizer, contents, tmp_path)
    middle = time.perf_counter()
    second = _cached(tokenizer, contents, tmp_path)
    assert _equal(first, second)
    assert first.values[:, 0, 0].tolist() == list(range(1, 200))
    assert tokenizer.calls == 4  # batches of 64
    assert middle - start > 10 * (time.perf_counter() - middle)


def test_key_is_tokenizer_content_and_order(tmp_path):
    for tokenizer, contents in (
        (Slow("slow:1"), ["a", "bb"]),
        (Slow("slow:2"), ["a", "bb"]),
        (Slow("slow:1"), ["bb", "a"]),
        (Slow("slow:1"), ["abb"]),
    ):
        _cached(tokenizer, contents, tmp_path)
        assert tokenizer.calls == 1
    assert len(list((tmp_path / "tokens").iterdir())) == 4


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty"])
def test_damaged_file_is_replaced(damage, tmp_path, caplog):
    expected = _cached(Slow(), ["a", "bb"], tmp_path)
    (path,) = (tmp_path / "tokens").iterdir()
    intact = path.read_bytes()
    flipped = intact[:-1] + bytes([intact[-1] ^ 1])
    path.write_bytes({"truncated": intact[:-5], "flipped": flipped, "foreign": b"x" * 90, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert _equal(_cached(Slow(), ["a", "bb"], tmp_path), expected)
    assert "damaged token cache" in caplog.text
    assert path.read_bytes() == intact


def test_progress_is_visible(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="fedgram.tokens"):
        _cached(Slow(), ["a"] * 100, tmp_path)
    assert ["64 of 100" in m or "100 of 100" in m for m in caplog.messages] == [True, True]


def _start(folder: Path, barrier, queue) -> None:
    barrier.wait()
    queue.put(_cached(Slow(seconds=0.02), ["a" * n for n in range(300)], folder).values.sum().item())


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_start, args=(tmp_path, barrier, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sums[0] == sums[1]
    assert [p.suffix for p in (tmp_path / "tokens").iterdir()] == [".safetensors"]


def test_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("fedgram.files.os.replace", full)
    with pytest.raises(CheckpointError, match="disk full"):
        _cached(Slow(), ["a"], tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_no_contents(tmp_path):
    tokens = _cached(Slow(), [], tmp_path)
    assert (len(tokens), tokens.values.shape[-1]) == (0, 2)


def test_tokens_must_be_finite(tmp_path):
    class Broken(Slow):
        def __call__(self, contents):
            tokens = super().__call__(contents)
            tokens.values[1, 0, 0] = float("nan")
            return tokens

    with pytest.raises(DataError, match="sample 2"):
        _cached(Broken(), ["a", "bb"], tmp_path)
