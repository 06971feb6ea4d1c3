"""The protocols of a modality: how a site's data are read and how they become frozen tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from fedgram.config.site import PLAIN, Reading
from fedgram.records import Sample, Tokens


class Tokenizer(Protocol):
    """A frozen map φ_m from raw contents to tokens; the same content always gives the same tokens."""

    @property
    def identity(self) -> str:
        """Name, version, settings and a hash of all weights and fitted values: part of the cache key."""
        ...

    @property
    def width(self) -> int:
        """The width d_m of a token."""
        ...

    def __call__(self, contents: Sequence[Any]) -> Tokens:
        """Make tokens (N, L, d_m), float32, without gradient; L is one number per tokenizer.

        Every row of the mask holds at least one True.

        Raises:
            DataError: a content cannot be tokenised.
        """
        ...


@runtime_checkable
class MapTokenizer(Protocol):
    """An image tokenizer whose tokens are places of the image: what segmentation needs.

    The patches are the last tokens, a square of them, row by row; at most one token stands before them.
    """

    def place(self, mask: np.ndarray) -> np.ndarray:
        """Resize and cut a mask (H, W), uint8, as the encoder does with its image, without new values."""
        ...


@runtime_checkable
class MovableTokenizer(Protocol):
    """A tokenizer that can compute on a GPU; its tokens come back to the CPU."""

    def to(self, device: torch.device) -> None:
        """Compute on this device from now on."""
        ...


@runtime_checkable
class FittedTokenizer(Protocol):
    """A tokenizer that takes statistics from the site's own samples."""

    @property
    def family(self) -> str:
        """The identity without those statistics: tokens of one family mean the same, up to units and offsets."""
        ...


@runtime_checkable
class ScreeningTokenizer(Protocol):
    """A tokenizer that knows which contents it cannot take, without their tokens, which take long."""

    def screen(self, contents: Sequence[Any]) -> object:
        """Refuse contents as the call does.

        Raises:
            DataError: a content cannot be tokenised.
        """
        ...


@runtime_checkable
class KeptTokenizer(Protocol):
    """A tokenizer that opens again from what it took of the training samples, without them."""

    @property
    def statistics(self) -> Mapping[str, Any]:
        """Everything that it took of them, as JSON has it; the third argument of :meth:`Modality.tokenizer`."""
        ...


@runtime_checkable
class RemarkingTokenizer(Protocol):
    """A tokenizer that takes some contents otherwise than one may think, and says so."""

    def remarks(self, contents: Sequence[Any]) -> list[str]:
        """Say, in words, what becomes of contents that are not as those it was made for."""
        ...


class Modality(Protocol):
    """One kind of data: how it is read, and its tokenizers."""

    @property
    def name(self) -> str:
        """The name of the modality in anchor manifests."""
        ...

    def read(self, path: Path, reading: Reading = PLAIN) -> list[Sample]:
        """Every labelled sample of a site, in a fixed order, with unique ids.

        Args:
            path: file or folder.
            reading: what the site file says about it.

        Raises:
            DataError: names the file and the row or record, never a value.
        """
        ...

    def read_anchor(self, path: Path) -> Any:
        """The raw content of one public anchor file.

        Raises:
            DataError: as ``read``.
        """
        ...

    def tokenizer(self, name: str, fit_on: Sequence[Sample], /) -> Tokenizer:
        """Open the frozen encoder of that name.

        A modality with a :class:`KeptTokenizer` takes a third argument, its statistics, and then no samples.

        Args:
            name: a built-in name, a hub id or a folder.
            fit_on: the site's own *training* samples, for tokenizers that depend on them (tables, lengths).

        Raises:
            DataError: the encoder is not there, or ``fit_on`` cannot be fitted.
        """
        ...

    def fingerprint(self, content: Any) -> bytes:
        """The bytes that identify a content, for the cache key."""
        ...


@dataclass(frozen=True)
class FileModality:
    """A :class:`Modality` that is put together from functions, so that one can be replaced and the others kept.

    ``read_unlabelled`` reads what somebody asks about: a file of one content or of many, or a data frame.
    ``parse`` makes a content of a string, as those of files are made; without it strings are paths of files.
    """

    name: str
    read: Callable[..., list[Sample]]
    read_anchor: Callable[..., Any]
    tokenizer: Callable[..., Tokenizer]
    fingerprint: Callable[..., bytes]
    read_unlabelled: Callable[..., list[Sample]] | None = None
    parse: Callable[[str, str], Any] | None = None
