"""Pictures with the words that they are to be made from: a table, or COCO's published caption files."""

from __future__ import annotations

from pathlib import Path

from fedgram.config.site import PLAIN, Reading
from fedgram.data.items import Caption
from fedgram.data.json_entries import by_identity, entries, identity, read_object, value
from fedgram.data.labels import SPLITS
from fedgram.data.paths import find_file
from fedgram.data.tables import read_table, require_column, require_filled, require_rows, require_unique
from fedgram.errors import DataError

TABLE = "captions.jsonl"


def read_captions(path: Path, reading: Reading = PLAIN) -> list[Caption]:
    """Read all captions of a file, in its order.

    - ``.json``: COCO's format, ``images`` (``id``, ``file_name``) and ``annotations`` (``id``, ``image_id``,
      ``caption``). The pictures lie beside the file, or where ``file_name`` says from there.
    - any table (CSV, TSV, JSONL, Parquet): columns ``path`` and ``text``; ``id``, ``concept`` and ``split`` if the
      table has them. Pictures are looked for from the folder of the table.

    Raises:
        DataError: the file is missing or not of this format, or a picture is missing.
    """
    return _from_coco(path) if path.suffix.lower() == ".json" else _from_table(path, reading)


def _from_table(path: Path, reading: Reading) -> list[Caption]:
    table, columns = read_table(path), reading.columns
    cells = require_filled(require_column(table, columns.path, path, "path"), path)
    texts = require_filled(require_column(table, columns.text, path, "text"), path)

    def optional(name: str) -> list[str]:
        return table[name].tolist() if name in table.columns else [""] * len(table)

    ids = optional(columns.id) if columns.id in table.columns else [str(i) for i in range(1, len(table) + 1)]
    require_unique(ids, path, "row")
    splits = [split.lower() for split in optional(columns.split)]
    require_rows(
        [split in ("", *SPLITS) for split in splits],
        path,
        f"column {columns.split!r} names no split",
        expected=", ".join(SPLITS),
    )
    images = [
        find_file(path.parent, cell, f"{path}, row {number}", f"column {columns.path!r}")
        for number, cell in enumerate(cells, 1)
    ]
    rows = zip(ids, images, texts, optional(columns.concept), splits, strict=True)
    return [
        Caption(id=i, image=image, text=text, concept=concept, split=SPLITS.get(split, ""))
        for i, image, text, concept, split in rows
    ]


def _from_coco(path: Path) -> list[Caption]:
    record = read_object(path)
    pictures = by_identity(entries(record, "images", str(path)), "id", path, "image")
    notes = by_identity(entries(record, "annotations", str(path)), "id", path, "annotation")
    if not notes:
        raise DataError("no captions", where=path)
    files: dict[str, Path] = {}
    read = []
    for number, (key, note) in enumerate(notes.items(), 1):
        where = f"{path}, annotation {number}"
        image_id = identity(note, "image_id", where)
        if image_id not in pictures:
            raise DataError("its image_id names no image", where=where, expected="one of `images`")
        if image_id not in files:
            name = value(pictures[image_id], "file_name", str, where)
            files[image_id] = find_file(path.parent, name, where, "file_name")
        read.append(Caption(id=key, image=files[image_id], text=value(note, "caption", str, where).strip()))
    return read
