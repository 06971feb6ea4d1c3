"""File names as tables of other systems have them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from fedgram.data.paths import find_file, stem, visible
from fedgram.errors import DataError


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("name", ["a\\p0\\0.png", "a/p0/0.png", "A/P0/0.PNG", "a\\p0\\0", "./a/p0/0.png"])
def test_other_spellings_of_one_file(name: str, tmp_path: Path):
    write(tmp_path, "a/p0/0.png", "a/p1/0.png")
    assert find_file(tmp_path, name, "row 1", "column 'path'") == tmp_path / "a/p0/0.png"


@pytest.mark.parametrize(("disk", "table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_are_coded_in_two_ways(disk, table, tmp_path: Path):
    write(tmp_path, unicodedata.normalize(disk, "Bär/Ä.png"))
    for name in ("Bär/Ä.png", "Bär/Ä"):
        assert find_file(tmp_path, unicodedata.normalize(table, name), "row 1", "path").is_file()


def test_an_exact_name_comes_first_and_two_alike_are_refused(tmp_path: Path):
    write(tmp_path, "a.png", "A.png", "b.PNG", "b.jpg")
    assert find_file(tmp_path, "A.png", "row 1", "path").name == "A.png"
    for name in ("a.PNG", "b"):
        with pytest.raises(DataError, match="row 1: path names more than one file"):
            find_file(tmp_path, name, "row 1", "path")
    with pytest.raises(DataError, match="row 1: path names no file"):
        find_file(tmp_path, "C:\\data\\a.png", "row 1", "path")
    write(tmp_path, "c.png")  # a folder may change between two looks
    assert find_file(tmp_path, "C.PNG", "row 1", "path").name == "c.png"


def test_a_uid_has_no_suffix():
    assert [stem(Path(name)) for name in ("a.PNG", "a.b.png", "1.2.840.113", "x")] == [
        "a",
        "a.b",
        "1.2.840.113",
        "x",
    ]


def test_what_systems_leave_in_folders_is_not_seen(tmp_path: Path):
    write(tmp_path, "b", "a", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a")
    assert [path.name for path in visible(tmp_path)] == ["a", "b"]
