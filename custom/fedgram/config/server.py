"""The server's own file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedgram.config.strict import expand_home, from_dict, read_toml, require_absolute_paths


@dataclass(frozen=True)
class ServerConfig:
    """The settings of the server's own machine.

    Attributes:
        state: folder of the saved rounds, from which an interrupted run goes on; inside the server's workspace
            when absent. `nvflare simulator` empties its workspace, so there only a folder elsewhere outlives it.
        methods: methods of other packages that a job may run here, by import path; fedgram's own always may.
    """

    state: str | None = None
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expand_home(self, ("state",))


def read_server_config(path: Path) -> ServerConfig:
    """Read the server's own file (TOML); all defaults when there is none.

    Raises:
        ConfigError: it is not TOML, holds an unknown or wrong setting, or a relative path.
    """
    if not path.exists():
        return ServerConfig()
    config = from_dict(ServerConfig, read_toml(path), str(path))
    require_absolute_paths({"state": config.state}, path)
    return config
