"""The device on which a site computes."""

from __future__ import annotations

import torch

from fedgram.config.site import SPLIT
from fedgram.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Find a device: ``auto`` is the first GPU if there is one, else the CPU; ``split`` begins at the first GPU.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda" if name == SPLIT else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{name!r} ({error})", where="device", expected="auto, cpu, cuda, cuda:N or split"
        ) from None
    return device
