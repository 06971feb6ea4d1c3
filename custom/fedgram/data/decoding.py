"""Text files as programs leave them: UTF-8 or UTF-16, with or without their mark, gzipped, with any line ends."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from pathlib import Path

from fedgram.config.strict import composed
from fedgram.errors import DataError

_BOMB_BYTES, _BOMB_TIMES, _PIECE = 2**28, 100, 2**20  # more bytes than this, and so many times the packed ones
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_file(path: Path, what: str, *, latin: bool = False) -> str:
    """The text of a file, with ``\\n`` at line ends and letters composed (NFC), so that equal words are equal.

    What the bytes begin with says whether it is gzipped (of one member or several) and whether it is UTF-16.

    Args:
        path: of the file.
        what: it should be, for messages.
        latin: take it as Latin-1 where it is not UTF-8: for files in which only names can hold such letters.

    Raises:
        DataError: it cannot be read or unpacked, or is no text.
    """
    try:
        data = path.read_bytes()
        data = _unpacked(data, path, what) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _unreadable(path, what, type(error).__name__, "export it again, or copy it again") from None
    if data.startswith(_ZIP):
        raise _unreadable(
            path, what, "a spreadsheet or a zip archive", "unpack it; save spreadsheets as CSV UTF-8"
        )
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if not latin:
            line = data[: error.start].count(b"\n") + 1
            raise _unreadable(path, what, f"line {line} is not UTF-8", "export it again as UTF-8") from None
        text = data.decode("latin-1")
    if "\0" in text:
        raise _unreadable(path, what, "it holds zero bytes", "export it again as UTF-8")
    return plain_text(text)


def plain_text(text: str) -> str:
    """Text with ``\\n`` at line ends and letters composed (NFC), so that equal words are equal."""
    return composed(text.replace("\r\n", "\n").replace("\r", "\n"))


def _unpacked(data: bytes, path: Path, what: str) -> bytes:
    """Unpack a gzipped file, in pieces: one that is made for it would fill the memory of any machine."""
    most, pieces, size = max(_BOMB_BYTES, _BOMB_TIMES * len(data)), [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        while piece := packed.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                remedy = "unpack it, look whether it is what it should be, and name the unpacked file"
                raise _unreadable(path, what, f"it unpacks to {_BOMB_TIMES} times its size and more", remedy)
    return b"".join(pieces)


def _unreadable(path: Path, what: str, reason: str, remedy: str) -> DataError:
    return DataError(f"not a readable {what} ({reason})", where=path, expected="UTF-8 text", remedy=remedy)
