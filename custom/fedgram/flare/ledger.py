"""The site's own record of everything that it hands to FLARE: one line of JSON a message, before it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from nvflare.app_common.abstract.fl_model import FLModel
from torch import Tensor


def record(path: Path, task: str, reply: FLModel | str) -> None:
    """Append the answer to a task: the hash and size of each tensor and every other value as it is.

    Args:
        path: of the record.
        task: that is answered.
        reply: the message, or the kind of an error.
    """
    entry: dict[str, Any] = {"time": time.time(), "task": task}
    if isinstance(reply, str):
        entry["error"] = reply
    else:
        params: Mapping[str, Tensor] = reply.params or {}
        entry |= {"values": reply.meta, "tensors": {name: describe(tensor) for name, tensor in params.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def describe(tensor: Tensor) -> dict[str, Any]:
    """Describe a tensor: type, shape, size and sha256 of its bytes in row-major order."""
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
    }
