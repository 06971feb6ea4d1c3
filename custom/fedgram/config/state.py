"""The folder of saved state on a machine whose own file names none."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FEDGRAM_STATE"  # `fedgram simulate` sets it for its processes: the simulator empties its workspace


def state_folder(own: str | None, inside: Path) -> Path:
    """The folder that the machine's own file names, else that of the simulation, else one inside the workspace.

    Args:
        own: the setting ``state`` of the machine's own file.
        inside: where state lies when nothing else is said.
    """
    return Path(own or os.environ.get(VARIABLE) or inside)
