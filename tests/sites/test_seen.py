"""The disk cache of what frozen parts see: used again, mapped, repaired where it is damaged or was cut short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from fedgram.data.pixels import Picture
from fedgram.errors import CheckpointError
from fedgram.sites.seen import BATCH, FOLDER, in_batches, mapped
from PIL import Image


class Eye:
    """Sees 2 tokens of 3 numbers in a picture, and counts how many pictures it has seen."""

    def __init__(self) -> None:
        self.seen, self.dies_at = 0, 10**9

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.seen += len(images)
        if self.seen > self.dies_at:
            raise KeyboardInterrupt
        values = torch.tensor([np.asarray(image).mean() for image in images], dtype=torch.float32)
        return values[:, None, None] + torch.arange(6.0).view(2, 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Three batches, the last not full."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(2 * BATCH + 3):
        Image.new("RGB", (4, 4), (number, 2 * number, 7)).save(folder / f"{number:03}.png")
    return [Picture(path) for path in sorted(folder.iterdir())]


def files_of(cache: Path) -> tuple[Path, Path]:
    values, notes = sorted((cache / FOLDER).iterdir())
    return values, notes


def looked_at_again(pictures: list[Picture], cache: Path) -> int:
    eye = Eye()
    assert torch.equal(mapped(eye, pictures, "eye", cache), in_batches(Eye(), pictures))
    return eye.seen


def test_what_was_seen_is_not_looked_at_again_and_lies_on_disk(pictures: list[Picture], tmp_path: Path):
    assert looked_at_again(pictures, tmp_path) == len(pictures)
    assert looked_at_again(pictures, tmp_path) == 0
    before = files_of(tmp_path)[0].read_bytes()
    mapped(Eye(), pictures, "eye", tmp_path)[0] = -1.0  # whoever writes to it writes to memory alone
    assert files_of(tmp_path)[0].read_bytes() == before
    assert mapped(Eye(), [], "eye", tmp_path).numel() == 0


def test_other_weights_and_other_pictures_are_something_else(pictures: list[Picture], tmp_path: Path):
    mapped(Eye(), pictures, "eye", tmp_path)
    for fewer, identity in ((pictures, "another eye"), (pictures[::-1], "eye"), (pictures[1:], "eye")):
        eye = Eye()
        assert torch.equal(mapped(eye, fewer, identity, tmp_path), in_batches(Eye(), fewer))
        assert eye.seen == len(fewer)


def test_a_killed_process_loses_only_the_batch_it_was_in(pictures: list[Picture], tmp_path: Path):
    eye = Eye()
    eye.dies_at = BATCH
    with pytest.raises(KeyboardInterrupt):
        mapped(eye, pictures, "eye", tmp_path)
    values, notes = files_of(tmp_path)
    notes.write_bytes(notes.read_bytes() + b'{"start": 32, "sha')  # killed while it noted the second
    values.write_bytes(values.read_bytes() + bytes(5))  # or wrote it
    assert looked_at_again(pictures, tmp_path) == len(pictures) - BATCH


@pytest.mark.parametrize("note", ["[]", "nonsense", '{"start": 0}', "null"])
def test_a_damaged_file_is_repaired(pictures: list[Picture], tmp_path: Path, note: str):
    mapped(Eye(), pictures, "eye", tmp_path)
    values, notes = files_of(tmp_path)
    content = bytearray(values.read_bytes())
    content[BATCH * 6 * 4 + 1] ^= 1  # one bit of the second batch
    values.write_bytes(content)
    assert looked_at_again(pictures, tmp_path) == BATCH
    values.write_bytes(content[:-1])
    assert looked_at_again(pictures, tmp_path) == BATCH + 3  # the second is damaged, the third cut short
    notes.write_text(note + "\n" + "\n".join(notes.read_text().splitlines()[1:]) + "\n")
    assert looked_at_again(pictures, tmp_path) == BATCH
    values.unlink()
    assert looked_at_again(pictures, tmp_path) == len(pictures)


def test_whole_numbers_are_kept_as_they_are(pictures: list[Picture], tmp_path: Path):
    def codes(images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.tensor([[np.asarray(image)[0, 0, 0], 2**40] for image in images])

    for _ in range(2):
        found = mapped(codes, pictures, "codes", tmp_path)
        assert found.dtype == torch.int64
        assert torch.equal(found, in_batches(codes, pictures))
    note = json.loads(files_of(tmp_path)[1].read_text().splitlines()[0])
    assert note["shape"] == [BATCH, 2]


def test_a_cache_that_cannot_be_written_says_so(pictures: list[Picture], tmp_path: Path):
    (tmp_path / FOLDER).write_text("a file in the folder's place")
    with pytest.raises(CheckpointError, match="cannot be written"):
        mapped(Eye(), pictures, "eye", tmp_path)
