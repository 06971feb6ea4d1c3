"""A user's own files made into a federation: site files, anchors and job, as `fedgram init` writes them."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedgram import modalities
from fedgram.anchors import MANIFEST, AnchorSet, load_anchors
from fedgram.anchors import build as folders
from fedgram.anchors import public as labelled
from fedgram.config import jobfolder
from fedgram.config.site import Columns
from fedgram.data.guess import Guess
from fedgram.data.paths import visible
from fedgram.errors import AnchorError, ConfigError
from fedgram.flare import jobs, workspace
from fedgram.methods import METHODS

TOKENIZERS = {
    "image": "efficientnet-lite0",
    "text": "minilm",
    "genomics": "kmer",
    "tabular": "numeric",
    "audio": "log-mel",
}
PARTS = ("train", "heldout")
_NAME = re.compile(r"\w[\w.-]*")
JOB, RUN, PUBLIC, ANCHORS = "job", "run", "public", "anchors"  # what is written into the folder


@dataclass(frozen=True)
class NewSite:
    """A site that is to be.

    Attributes:
        name: of the site.
        path: of its data.
        guess: how they are read.
        tokenizer: of its modality, or what its owner has named.
    """

    name: str
    path: Path
    guess: Guess
    tokenizer: str

    def file(self, anchors: Path, heldout: Path | None, methods: Sequence[str] = ()) -> str:
        """The text of the site's own file; it allows the methods that are named."""
        plain = {k: v for k, v in asdict(self.guess.columns).items() if v != getattr(Columns(), k)}
        settings: dict[str, Any] = {
            "modality": self.guess.modality,
            "data": str(self.path.resolve()),
            "tokenizer": self.tokenizer,
            "task": self.guess.task,
            "anchors": str(anchors.resolve()),
            "heldout": str(heldout.resolve()) if heldout else None,
            "methods": list(methods) or None,
            "secret": secrets.token_hex(16),  # in the file, so that a simulation gives the same numbers again
            "columns": plain,
        }
        return workspace.site_file(settings, self.guess.notes)


@dataclass(frozen=True)
class Plan:
    """The sites, and the public files that are to be their anchors.

    Attributes:
        folder: into which all is written.
        sites: of the federation, two or more.
        public: labelled public files, or a folder of them, or sets that are built already.
        force: whether what an earlier call wrote is overwritten.
        licence, source: of the public files.
    """

    folder: Path
    sites: Sequence[NewSite]
    public: Sequence[Path | labelled.Public] = ()
    force: bool = False
    licence: str = "not stated"
    source: str = "the user's public files"

    def __post_init__(self) -> None:
        names = [site.name for site in self.sites]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"sites {', '.join(names) or 'none'}",
                where="fedgram init",
                expected="two or more, each with a name of its own",
                remedy="name them: NAME:PATH or NAME:MODALITY:PATH for each",
            )
        for site in self.sites:
            if site.name == "server" or not _NAME.fullmatch(site.name):
                raise ConfigError(
                    f"a site named {site.name!r}",
                    where="fedgram init",
                    expected="letters, digits, _, - and dots; the name server is FLARE's own",
                    remedy=f"give it another name: NAME:{site.guess.modality}:{site.path}",
                )


def anchors_of(plan: Plan) -> dict[str, AnchorSet]:
    """Find or build the anchor sets: ``train``, and ``heldout`` where there is one.

    Raises:
        AnchorError: they cannot be used or built, or an earlier one is in the way.
        DataError: a public file cannot be read.
    """
    given = [path for path in plan.public if isinstance(path, Path)]
    if not given:
        _clear(plan)
        files = [file for file in plan.public if isinstance(file, labelled.Public)]
        return labelled.build(files, plan.folder / ANCHORS)
    if len(given) < len(plan.public) or len(given) > 2:
        raise AnchorError(
            "folders of anchors and labelled files",
            where=given[0],
            expected="one folder, or files of each modality",
        )
    if len(given) == 1 and all((given[0] / part).is_dir() for part in PARTS):
        given = [given[0] / part for part in PARTS]
    if all((folder / MANIFEST).is_file() for folder in given):
        return {part: load_anchors(folder) for part, folder in zip(PARTS, given, strict=False)}
    _clear(plan)
    return {
        part: folders.build(
            folder, plan.folder / ANCHORS / part, name=part, terms={"licence": plan.licence, "source": plan.source}
        )
        for part, folder in zip(PARTS, given, strict=False)
    }


def _clear(plan: Plan) -> None:
    """Remove the sets of an earlier call, where that is wanted."""
    for part in PARTS:
        folder = plan.folder / ANCHORS / part
        if folder.exists() and plan.force and (folder / MANIFEST).is_file():
            shutil.rmtree(folder)
        if folder.exists():
            raise AnchorError("already there", where=folder, remedy="--force overwrites what fedgram init wrote")


def write(plan: Plan, anchors: Mapping[str, AnchorSet], method: str = "geodora") -> list[Path]:
    """Write job, workspace and site files.

    Returns:
        The site files.

    Raises:
        ConfigError: a job is there already, or there is no such method.
    """
    by_modality: dict[str, list[str]] = {}
    for site in plan.sites:
        by_modality.setdefault(modalities.load(site.guess.modality).name, []).append(site.name)
    pins = {
        key: anchors[part].pin() for key, part in (("anchors", "train"), ("heldout", "heldout")) if part in anchors
    }
    job = jobs.over(by_modality, pins, method)
    jobs.write(job, plan.folder / JOB, overwrite=plan.force)
    heldout = anchors["heldout"].folder if "heldout" in anchors else None
    asked = jobfolder.settings_in(job[jobfolder.SERVER]).get("method", {}).get("name")
    return write_sites(plan, anchors["train"].folder, heldout, [asked] if asked else [])


def write_sites(plan: Plan, anchors: Path, heldout: Path | None, methods: Sequence[str] = ()) -> list[Path]:
    """Write the workspace of the simulation: its site files, and the server's where a method is foreign code."""
    run = plan.folder / RUN
    files = {site.name: site.file(anchors, heldout, methods) for site in plan.sites}
    if foreign := [name for name in methods if name not in METHODS]:
        files["server"] = workspace.server_file(foreign)
    workspace.write(run, files)
    return [run / "local" / "fedgram" / f"{site.name}.toml" for site in plan.sites]


def folders_to_fill(plan: Plan, concepts: Mapping[str, Sequence[str]]) -> Path:
    """Make empty folders for public files, ``public/train/<modality>/<concept>``; those that are there stay.

    Args:
        concepts: by modality.

    Raises:
        ConfigError: a concept that cannot be the name of a folder.
    """
    wrong = sorted({name for names in concepts.values() for name in names if "/" in name or name.startswith(".")})
    if wrong:
        raise ConfigError(
            f"class {wrong[0]!r}",
            where="folders for public files",
            expected="the name of a folder: without /, and no dot in front",
            remedy="name labelled public files instead: --anchors FILE",
        )
    folder = plan.folder / PUBLIC
    for part in PARTS:
        for modality, names in concepts.items():
            for name in names:
                (folder / part / modality / name).mkdir(parents=True, exist_ok=True)
    return folder


def is_filled(folder: Path) -> bool:
    """Whether somebody has put a file into the folders that were made."""
    return folder.is_dir() and any(p.is_file() for p in folder.rglob("*") if p in visible(p.parent))
