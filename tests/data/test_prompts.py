"""Prompts in GenEval's published format."""

from __future__ import annotations

import json

import pytest
from fedgram.data.prompts import Prompt, Wanted, read_prompts
from fedgram.errors import DataError

from research.scenes.prompts import write_prompts

# Two lines as they stand in the published file.
PUBLISHED = """\
{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}], "prompt": "a photo of two clocks"}
{"tag": "position", "include": [{"class": "teddy bear", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}], "prompt": "a photo of a dog right of a teddy bear"}
{"tag": "colors", "include": [{"class": "fire hydrant", "count": 1, "color": "blue"}], "prompt": "a photo of a blue fire hydrant"}
"""  # noqa: E501


def test_published_lines_are_read(tmp_path):
    (tmp_path / "p.jsonl").write_text(PUBLISHED)
    assert read_prompts(tmp_path / "p.jsonl") == [
        Prompt("a photo of two clocks", "counting", (Wanted("clock", 2),), (Wanted("clock", 3),)),
        Prompt(
            "a photo of a dog right of a teddy bear",
            "position",
            (Wanted("teddy bear", 1), Wanted("dog", 1, position=("right of", 0))),
        ),
        Prompt("a photo of a blue fire hydrant", "colors", (Wanted("fire hydrant", 1, "blue"),)),
    ]


def test_written_as_published(tmp_path):
    (tmp_path / "p.jsonl").write_text(PUBLISHED)
    write_prompts(tmp_path / "again.jsonl", read_prompts(tmp_path / "p.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line) for line in PUBLISHED.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "{}",
        '{"prompt": "x", "tag": "y", "include": [{"count": 1}]}',
        '{"prompt": "x", "tag": "y", "include": [{"class": "a", "count": 1, "position": ["under", 0]}]}',
        '{"prompt": "x", "tag": "y", "include": [{"class": "a", "count": 1, "position": ["above", 0]}]}',
    ],
)
def test_a_wrong_line_is_named(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(PUBLISHED + line + "\n")
    with pytest.raises(DataError, match="line 4") as error:
        read_prompts(tmp_path / "p.jsonl")
    assert "evil" not in str(error.value)


def test_no_file_and_no_prompts(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no prompts"):
        read_prompts(tmp_path / "p.jsonl")
