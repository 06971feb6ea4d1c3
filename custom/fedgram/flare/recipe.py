"""FLARE's own idiom: a Recipe that runs a job of fedgram in SimEnv, PocEnv or ProdEnv, or writes its folder."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nvflare.fuel.utils.secret_utils import PotentialSecretWarning
from nvflare.job_config.api import FedJob
from nvflare.recipe.poc_env import PocEnv
from nvflare.recipe.run import Run
from nvflare.recipe.sim_env import SimEnv
from nvflare.recipe.spec import ExecEnv
from nvflare.recipe.spec import Recipe as FlareRecipe
from nvflare.tool.poc.poc_commands import get_prod_dir

from fedgram.config import jobfolder
from fedgram.demo.files import site_files
from fedgram.errors import ConfigError
from fedgram.files import write_text
from fedgram.flare import jobs, workspace
from fedgram.flare.components import SERVER_CLASSES, SITE_CLASSES
from fedgram.flare.provision import PRIVACY
from fedgram.training.notebook import AnySite, pins_of, plain_site, site_configs

_STREAMER = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"


class _FolderJob(FedJob):
    """A FedJob that is a job folder already: FLARE's own would write the same settings otherwise.

    Args:
        folder: the job folder's files.
        files: the sites' own files, by site, for the environments of one machine.
    """

    def __init__(self, folder: jobs.Folder, files: Mapping[str, str]):
        meta = folder[jobfolder.META]
        super().__init__(name=meta["name"], min_clients=meta["min_clients"])
        self.folder, self.files = folder, files
        self.sites = [site for sites in meta["deploy_map"].values() for site in sites if site != "server"]
        self.kits: Path | None = None  # of a POC that is about to run it

    def to(self, obj: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Refuse what a job of fedgram cannot carry.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(obj).__name__} for {target}",
            where=self.name,
            expected="settings alone",
            remedy="give settings=… to the Recipe; filters are for the sites' own policy (privacy.json)",
        )

    def to_server(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse what is not a setting."""
        self.to(obj, "server")

    def to_clients(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse what is not a setting."""
        self.to(obj, "clients")

    def export_job(self, job_root: str) -> None:
        """Write the job folder ``<job_root>/<name>``, byte for byte as `fedgram job write` does."""
        if self.kits is not None:
            _equip(self.kits, self.files)
        jobs.write(self.folder, Path(job_root, self.name), overwrite=True)

    def simulator_run(
        self,
        workspace: str,
        n_clients: int | None = None,
        clients: list[str] | None = None,
        threads: int | None = None,
        gpu: str | None = None,
        log_config: str | None = None,
    ) -> int:
        """Run the folder in `nvflare simulator`, with a thread for each site: with fewer, state would be lost."""
        self.require(clients or n_clients)
        with TemporaryDirectory() as folder:
            self.export_job(folder)
            command = ["-m", "nvflare.cli", "simulator", "-w", workspace, "-t", str(len(self.sites))]
            command += [*(["-gpu", gpu] if gpu else []), *(["-l", log_config] if log_config else [])]
            return subprocess.run([sys.executable, *command, str(Path(folder, self.name))], check=False).returncode

    def require(self, clients: list[str] | int | None) -> None:
        """Raise ConfigError unless an environment has exactly the job's sites."""
        named = sorted(clients) if isinstance(clients, list) else clients
        if named not in (sorted(self.sites), len(self.sites)):
            raise ConfigError(
                f"an environment of clients {shlex.quote(str(named))}",
                where=self.name,
                expected=f"clients={sorted(self.sites)}",
            )


class Recipe(FlareRecipe):
    """A federation as FLARE's Recipe: ``Recipe(sites, anchors=…).execute(SimEnv(clients=[…]))``.

    In SimEnv and PocEnv, where all sites are this machine, their own files are written from ``sites``; in ProdEnv
    every site has its own already, and nothing of ``sites`` but the names and modalities travels.

    Args:
        sites: by name, as :func:`fedgram.run` takes them; the demo's when absent.
        anchors, heldout: folders of the anchor sets, where the sites' settings name none.
        method: ``geodora`` or any other name that `fedgram job write` knows.
        settings: of :class:`~fedgram.config.job.JobConfig` that are other than the method's, as plain data.
        name: of the job; ``fedgram-<method>`` when absent.

    Raises:
        ConfigError: settings that are wrong, or no such method.
    """

    def __init__(
        self,
        sites: Mapping[str, AnySite] | None = None,
        *,
        anchors: str | Path | None = None,
        heldout: str | Path | None = None,
        method: str = "geodora",
        settings: Mapping[str, Any] | None = None,
        name: str | None = None,
    ):
        if sites is None:
            folder, files = jobs.build(method), site_files(method)
        else:
            configs = site_configs(sites, anchors, heldout)
            by_modality: dict[str, list[str]] = {}
            for site, config in configs.items():
                by_modality.setdefault(workspace.name_of(config), []).append(site)
            folder = jobs.over(by_modality, pins_of(configs), method)
            files = {site: workspace.site_file(plain_site(config)) for site, config in configs.items()}
        jobs.change(folder, settings or {}, name)
        self._folder_job = _FolderJob(folder, files)
        super().__init__(self._folder_job)

    def _warn_potential_secrets_in_exported_job(self, job_dir: str) -> None:
        """Leave FLARE's search for secrets out: it would find the hashes of the public anchor sets."""

    def run(
        self,
        env: ExecEnv,
        server_exec_params: dict[str, Any] | None = None,
        client_exec_params: dict[str, Any] | None = None,
    ) -> Run:
        """Run the job in an environment, without FLARE's warnings of secrets: see above."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PotentialSecretWarning)
            return super().run(env, server_exec_params, client_exec_params)

    def process_env(self, env: ExecEnv) -> None:
        """Write the sites' own files into an environment of this machine, and check that it has these sites."""
        if isinstance(env, SimEnv):
            workspace.write(Path(env.workspace_root, self.name), self._folder_job.files)
        elif isinstance(env, PocEnv):
            self._folder_job.require(env.clients or env.num_clients)
            self._folder_job.kits = Path(str(env.poc_workspace))


def _equip(place: Path, files: Mapping[str, str]) -> None:
    """Give the kits of a POC the policy of a provisioned kit and the sites' own files, which job processes read.

    FLARE's parents have started by then with its defaults, and add a streamer of error logs to every job.
    """
    prod = Path(get_prod_dir(str(place)))
    for kit in filter(Path.is_dir, (prod / name for name in ("server", *files))):
        local = kit / "local"
        own, default = local / "resources.json", local / "resources.json.default"
        resources = json.loads((own if own.is_file() else default).read_text())
        resources["class_allow_list"] = list(
            SERVER_CLASSES if kit.name == "server" else (*SITE_CLASSES, _STREAMER)
        )
        write_text(own, json.dumps(resources, indent=2) + "\n")
        if kit.name in files:
            write_text(local / "privacy.json", json.dumps(PRIVACY, indent=2) + "\n")
            write_text(local / "fedgram.toml", files[kit.name])
