"""The typed errors of fedgram.

Every error says what was wrong, where, what was expected and how to mend it. Messages name files, rows,
columns and sites, never the values of private data: a log may travel further than the data may.
"""

from __future__ import annotations


class FedgramError(Exception):
    """Base of all fedgram errors.

    Args:
        problem: what is wrong, with what was got.
        where: the file, row, column, site or setting concerned.
        expected: what would have been right.
        remedy: what the reader can do about it.
    """

    def __init__(self, problem: str, *, where: object = None, expected: object = None, remedy: str | None = None):
        self.problem, self.where, self.expected, self.remedy = problem, where, expected, remedy
        lines = [f"{where}: {problem}" if where is not None else problem]
        if expected is not None:
            lines.append(f"expected: {expected}")
        if remedy is not None:
            lines.append(f"remedy: {remedy}")
        super().__init__("\n  ".join(lines))


class ConfigError(FedgramError):
    """A job's or a site's configuration is wrong."""


class DataError(FedgramError):
    """A site's data cannot be read or is not what its site file says."""


class AnchorError(FedgramError):
    """An anchor set is missing, edited, or not the one the federation uses."""


class BackboneError(FedgramError):
    """The shared transformer cannot be loaded or cannot take token embeddings."""


class CheckpointError(FedgramError):
    """Saved state is missing, damaged, or of another run."""


class UpdateRejected(FedgramError):
    """A site's reply breaks the contract and does not count in this round."""


class RoundFailed(FedgramError):
    """A round ended with fewer good replies than the job needs."""


class MaskRefused(FedgramError):
    """A site takes no part in a masked sum, because the sum could tell more than it may."""
