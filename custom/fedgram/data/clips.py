"""Recordings: WAV, FLAC or OGG files as one channel at the rate that an encoder wants."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from fedgram.config.site import PLAIN, Reading
from fedgram.data.folders import Files, read_files
from fedgram.errors import DataError
from fedgram.records import Sample

AUDIO = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus")
SHORTEST, LONGEST = 0.05, 600.0  # seconds
_RATES = 1_000, 384_000  # Hz
_LOUDEST = 8.0  # full scale is 1, and floating point may pass it; whole numbers in floating point are thousands
_CANCELLED = 1e-4  # of the channels' power is left where they are of opposite sign
_BLOCK = 1 << 20  # frames decoded at once
_UNKNOWN_LENGTH = 0x7FFFFFFF  # what programs write into a header that they cannot go back to, or more
_CUT = re.compile(r"data : (\d+) \(should be (\d+)\)")  # libsndfile's log of a WAV file


@dataclass(frozen=True)
class Clip:
    """A recording; its samples are read when they are needed, so that memory does not grow with the folder.

    Attributes:
        path: of the file.
    """

    path: Path

    def fingerprint(self) -> bytes:
        """Bytes that identify the recording: the file's."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Header:
    """The header of a recording: seconds, samples a second, and channels."""

    seconds: float
    rate: int
    channels: int


def read_clips(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each recording, from folders or a table as :func:`~fedgram.data.folders.read_files`.

    Raises:
        DataError: no such file or folder, no recording, or a file that is none.
    """
    return read_files(path, reading, Files(what="a recording", suffixes=AUDIO, is_one=is_audio, content=Clip))


def read_clip(path: Path) -> Clip:
    """Open the recording of an anchor file.

    Raises:
        DataError: as :func:`open_clip`.
    """
    clip = Clip(path)
    open_clip(clip)
    return clip


def is_audio(path: Path) -> bool:
    """Whether a file is a recording, by its suffix."""
    return path.suffix.lower() in AUDIO


def look(clip: Clip) -> Header:
    """Read the header of a recording.

    Raises:
        DataError: no recording, damaged, cut short, too short or too long, or of an impossible rate.
    """
    with _opened(clip.path) as file:
        return _header(file, clip.path)


def open_clip(clip: Clip, rate: int | None = None) -> np.ndarray:
    """Decode a recording: the mean of its channels, (samples,), float32, full scale from −1 to 1.

    It is brought to ``rate`` by polyphase filtering (``scipy.signal.resample_poly``, Kaiser's window with β = 5),
    or stays at its own when that is None.

    Raises:
        DataError: as :func:`look`; a sample that is no number or far beyond full scale; digital silence, or
            channels that cancel one another.
    """
    with _opened(clip.path) as file:
        header = _header(file, clip.path)
        blocks = [*file.blocks(_BLOCK, dtype="float32", always_2d=True)]
        expected = file.frames
    power, mono = _mixed(blocks, clip.path)
    if len(mono) < expected:
        raise _cut_short(clip.path, len(mono), expected)
    if power == 0:
        raise DataError("digital silence", where=clip.path, expected="a sound", remedy="take the file out")
    if np.square(mono, dtype=np.float64).mean() < _CANCELLED * power:
        raise DataError(
            "channels of opposite sign, of which the mean is silence",
            where=clip.path,
            remedy="keep one of the channels",
        )
    if rate is None or rate == header.rate:
        return mono
    from scipy.signal import resample_poly  # a second to import, and clips are known where no sound is read

    common = gcd(rate, header.rate)
    return resample_poly(mono, rate // common, header.rate // common).astype(np.float32)


def remarks(clips: Sequence[Clip], rate: int, window: float | None) -> list[str]:
    """Say what an encoder makes of recordings that are not as those it was trained on.

    Args:
        rate: of the encoder, in Hz.
        window: seconds that it sees at once; None if any number.
    """
    headers, said = [look(clip) for clip in clips], []
    long = sum(window is not None and header.seconds > window for header in headers)
    if long:
        said.append(
            f"{long} of {len(clips)} recordings are longer than the {window:.4g} s that the encoder takes: it "
            "sees them in windows that overlap, and nothing is cut off"
        )
    low = [header.rate for header in headers if header.rate < rate]
    if low:
        said.append(
            f"{len(low)} of {len(clips)} recordings have fewer than the encoder's {rate} samples a second, one of "
            f"them {min(low)}: it hears nothing above half of that"
        )
    return said


def _header(file: Any, path: Path) -> Header:
    rate, frames = file.samplerate, file.frames
    if not _RATES[0] <= rate <= _RATES[1]:
        raise DataError(f"{rate} samples a second", where=path, expected="{} … {}".format(*_RATES))
    if frames == 0:
        raise DataError("no samples: empty, or cut short", where=path, remedy="take the file out")
    cut = _CUT.search(file.extra_info)
    if cut is not None and int(cut[2]) < int(cut[1]) < _UNKNOWN_LENGTH:
        raise _cut_short(path, int(cut[2]), int(cut[1]), "bytes")
    seconds = frames / rate
    if not SHORTEST <= seconds <= LONGEST:
        raise DataError(
            f"{seconds:.4g} s",
            where=path,
            expected=f"{SHORTEST} … {LONGEST:.0f} s",
            remedy="cut long recordings into clips that a label holds for, of one group; take clicks out",
        )
    return Header(seconds, rate, file.channels)


def _mixed(blocks: Sequence[np.ndarray], path: Path) -> tuple[float, np.ndarray]:
    """The mean power of all channels, and their mean (samples,), float32.

    Args:
        blocks: (frames, channels).
    """
    start, power, count = 0, 0.0, 0
    for block in blocks:
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if wrong.size:
            raise DataError(
                f"sample {start + int(wrong[0]) + 1} is not a number",
                where=path,
                remedy="write the recording again, or take it out",
            )
        if np.abs(block).max(initial=0) > _LOUDEST:
            raise DataError(
                f"samples beyond {_LOUDEST:.0f} times full scale",
                where=path,
                expected="floating point from −1 to 1, or whole numbers stored as such",
                remedy="divide by full scale (32768 for 16 bits) and write the recording again",
            )
        start, count = start + len(block), count + block.size
        power += float(np.square(block, dtype=np.float64).sum())
    return power / max(count, 1), np.concatenate([block.mean(axis=1) for block in blocks])


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open a file with soundfile; what libsndfile raises becomes a DataError."""
    if not path.is_file():
        raise DataError("no such file", where=path)
    if not is_audio(path):
        raise DataError(
            f"the suffix {path.suffix or '(none)'} of no recording that is read",
            where=path,
            expected=", ".join(AUDIO),
            remedy="write it as WAV, FLAC or OGG",
        )
    if importlib.util.find_spec("soundfile") is None:
        raise DataError("soundfile is not installed", where=path, remedy="pip install 'fedgram[audio]'")
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise DataError(
            f"unreadable recording ({type(error).__name__})",
            where=path,
            expected="a WAV, FLAC or OGG file",
            remedy="repair the file, or take it out",
        ) from None


def _cut_short(path: Path, there: int, said: int, what: str = "samples") -> DataError:
    return DataError(
        f"cut short: {there} of the {said} {what} that its header speaks of",
        where=path,
        remedy="copy the file again, or take it out",
    )
