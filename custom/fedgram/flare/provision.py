"""Site policy as part of provisioning: every kit comes out ready to run fedgram, and nothing else.

Named as a builder in ``project.yml``, after FLARE's StaticFileBuilder; nobody edits JSON by hand.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from nvflare.lighter.constants import CtxKey, ParticipantType
from nvflare.lighter.spec import Builder, Project, ProvisionContext

from fedgram.flare.components import SERVER_CLASSES, SITE_CLASSES

# Nobody may run code that a job brings along, or read files and logs at a site from afar: the shell commands of
# the admin console (cat, grep, tail …) would show a site's own file. A right that is not named is denied.
_DENIED = {"byoc": "none", "server-predeployed-flwr": "none", "shell_commands": "none"}
_ROLES = {
    "project_admin": {
        **_DENIED,
        **dict.fromkeys(("submit_job", "clone_job", "manage_job", "download_job", "view", "operate"), "any"),
        **dict.fromkeys(("get_job_log", "report_version", "list_job", "download_job_components"), "any"),
    },
    "org_admin": {
        **_DENIED,
        "shell_commands": "o:site",
        "manage_job": "o:submitter",
        "view": "any",
        "operate": "o:site",
        "get_job_log": "o:site",
    },
    "lead": {
        **_DENIED,
        "submit_job": "any",
        **dict.fromkeys(("clone_job", "manage_job", "download_job", "get_job_log"), "n:submitter"),
        "view": "any",
    },
    "member": {**_DENIED, "view": "any"},
}


def authorization(at_server: bool) -> dict[str, Any]:
    """Rights by role: at the server its jobs' logs may be read, at a site only by its own people."""
    logs = {} if at_server else {"get_job_log": "o:site"}
    return {"format_version": "1.0", "permissions": {role: {**rights, **logs} for role, rights in _ROLES.items()}}


# The only scope there is: a job that names another one is refused, and every reply passes the site's own gate.
PRIVACY = {
    "scopes": [
        {
            "name": "fedgram",
            "task_data_filters": [{"path": "fedgram.flare.privacy.TheTask", "args": {}}],
            "task_result_filters": [{"path": "fedgram.flare.privacy.OnlyTheContract", "args": {}}],
        }
    ],
    "default_scope": "fedgram",
}


class SitePolicyBuilder(Builder):
    """A builder of the policy files in every kit's ``local`` folder, and of a site's example of its own file.

    The allow-list names exact classes. A prefix such as ``"fedgram."`` would let a job call any function of the
    package with arguments of its choice: FLARE calls whatever a component's path names.

    Args:
        server_storage: folder on the server's machine for jobs and their results; the server's kit where it is
            provisioned when absent, for trials on one machine.
        heart_beat_timeout: seconds of silence after which the server takes a site for gone.
        site_file: the commented example that goes into every site's kit; a path from where provisioning runs.
        extra_classes: more classes that jobs may use, everywhere.
    """

    def __init__(
        self,
        server_storage: str | None = None,
        heart_beat_timeout: int = 60,
        site_file: str | None = None,
        extra_classes: tuple[str, ...] = (),
    ):
        self.server_storage = server_storage
        self.heart_beat_timeout = heart_beat_timeout
        self.site_file = site_file
        self.extra_classes = tuple(extra_classes)

    def build(self, project: Project, ctx: ProvisionContext) -> None:
        """Complete the kits of the server and the sites; FLARE's own defaults stay beside them."""
        for participant in project.get_all_participants():
            if participant.type not in (ParticipantType.SERVER, ParticipantType.CLIENT):
                continue
            at_server = participant.type == ParticipantType.SERVER
            local = Path(ctx.get_local_dir(participant))
            resources = json.loads((local / "resources.json.default").read_text())
            if at_server:
                self._complete_server(resources, Path(self.server_storage or _kit(participant.name, ctx)))
            else:
                resources["class_allow_list"] = [*SITE_CLASSES, *self.extra_classes]
                resources["allow_log_streaming"] = False  # in project.yml it has no effect in FLARE 2.9.0
                _write(local / "privacy.json", PRIVACY)
                if self.site_file:
                    shutil.copy(self.site_file, local / "fedgram.toml.example")
            _write(local / "resources.json", resources)
            _write(local / "authorization.json", authorization(at_server))

    def _complete_server(self, resources: dict[str, Any], storage: Path) -> None:
        """Set the server's storage: FLARE's default, /tmp/nvflare, is shared by all of a machine's federations."""
        resources["class_allow_list"] = [*SERVER_CLASSES, *self.extra_classes]
        resources["servers"][0]["heart_beat_timeout"] = self.heart_beat_timeout
        resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(storage / "snapshots")
        (manager,) = (c for c in resources["components"] if c["id"] == "job_manager")
        manager["args"]["uri_root"] = str(storage / "jobs")
        resources["components"].append({"id": "rejoin", "path": "fedgram.flare.rejoin.Rejoin", "args": {}})
        resources["components"].append(
            {"id": "gate", "path": "fedgram.flare.shield.parent.ServerGate", "args": {}}
        )


def _kit(name: str, ctx: ProvisionContext) -> Path:
    """The folder to which FLARE moves a kit at the end of provisioning."""
    return Path(str(ctx.get_workspace()), f"prod_{ctx[CtxKey.LAST_PROD_STAGE] + 1:02}", name).resolve()


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
