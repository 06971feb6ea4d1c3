"""Startup kits made by hand, with real certificates: what `nvflare provision` writes, as far as it is read."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fedgram.config.strict import to_dict
from fedgram.flare.provision import PRIVACY
from toy import Toy

CLIENT_CLASSES = (
    "fedgram.flare.executors.SiteExecutor",
    "nvflare.app_common.widgets.convert_to_fed_event.ConvertToFedEvent",
)
SERVER_CLASSES = (
    "fedgram.flare.controller.GramController",
    "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
)

REJOIN = {"id": "rejoin", "path": "fedgram.flare.rejoin.Rejoin", "args": {}}
GATE = {"id": "gate", "path": "fedgram.flare.shield.parent.ServerGate", "args": {}}


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path: Path, **changes: Any) -> None:
    """Set top-level keys of a JSON file."""
    write_json(path, json.loads(path.read_text()) | changes)


class Authority:
    """A root certificate that signs others."""

    def __init__(self, name: str = "toyfed"):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(self.name, self.key.public_key())

    def sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start: float = -1, end: float = 365
    ) -> x509.Certificate:
        """A certificate valid between two points in time, in days from now."""
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now + timedelta(days=start)).not_valid_after(now + timedelta(days=end))
        return builder.sign(self.key, hashes.SHA256())


def certify(kit: Path, side: str, name: str, authority: Authority, start: float = -1, end: float = 365) -> None:
    """Write rootCA.pem, and certificate and key of a participant."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    startup = kit / "startup"
    (startup / "rootCA.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    certificate = authority.sign(subject, key.public_key(), start, end)
    (startup / f"{side}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = startup / f"{side}.key"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def write_policy(local: Path, classes: tuple[str, ...], **settings: Any) -> None:
    write_json(local / "resources.json", {"format_version": 2, "class_allow_list": list(classes), **settings})
    roles = {
        "project_admin": {"byoc": "none", "shell_commands": "none"},
        "lead": {"byoc": "none"},
        "member": {"view": "any"},
    }
    write_json(local / "authorization.json", {"format_version": "1.0", "permissions": roles})


def _security(side: str) -> dict[str, str]:
    files = {"ssl_private_key": f"{side}.key", "ssl_cert": f"{side}.crt", "ssl_root_cert": "rootCA.pem"}
    return {**files, "connection_security": "mtls"}


def site_kit(toy: Toy, folder: Path, port: int, site: str = "red") -> Path:
    """A site's kit in which nothing is wrong."""
    servers = [{"name": "toyfed", "service": {"target": f"127.0.0.1:{port}"}, "identity": "localhost"}]
    client = {"fqsn": site, "is_leaf": True, **_security("client")}
    write_json(folder / "startup" / "fed_client.json", {"servers": servers, "client": client})
    certify(folder, "client", site, Authority())
    write_policy(folder / "local", CLIENT_CLASSES, allow_log_streaming=False)
    write_json(folder / "local" / "privacy.json", PRIVACY)
    edit_site(
        folder,
        modality=toy.sites[site].modality,
        data=toy.sites[site].data,
        tokenizer="patches",
        anchors=str(toy.root / "anchors"),
        heldout=str(toy.root / "heldout"),
        device="cpu",
        threads=1,
        cache=str(folder / "cache"),
        state=str(folder / "state"),
        backbones=dict(toy.sites[site].backbones),
    )
    return folder


def edit_site(kit: Path, **changes: Any) -> None:
    """Set settings of the site's own file; None takes one out."""
    path = kit / "local" / "fedgram.toml"
    settings = (tomllib.loads(path.read_text()) if path.exists() else {}) | changes
    plain = {key: value for key, value in settings.items() if key != "backbones" and value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    lines += ["[backbones]", *(f"{key} = {json.dumps(value)}" for key, value in settings["backbones"].items())]
    path.write_text("\n".join(lines))


def server_kit(folder: Path, port: int) -> Path:
    """The server's kit in which nothing is wrong."""
    server = {
        "name": "toyfed",
        "service": {"target": f"localhost:{port}"},
        "admin_port": port,
        **_security("server"),
    }
    write_json(folder / "startup" / "fed_server.json", {"servers": [server]})
    certify(folder, "server", "localhost", Authority())
    jobs = {"id": "job_manager", "args": {"uri_root": str(folder / "jobs")}}
    snapshots = {"args": {"storage": {"args": {"root_dir": str(folder / "snapshots")}}}}
    write_policy(folder / "local", SERVER_CLASSES, components=[jobs, REJOIN, GATE], snapshot_persistor=snapshots)
    return folder


def job_folder(toy: Toy, folder: Path) -> Path:
    """The toy's job as it would be announced."""
    apps = {site: [site] for site in toy.sites}
    write_json(folder / "meta.json", {"name": "toy", "deploy_map": {"app_server": ["server"], **apps}})
    workflow = {"id": "gram", "path": SERVER_CLASSES[0], "args": {"job": to_dict(toy.job)}}
    tracker = {"id": "tensorboard", "path": SERVER_CLASSES[1], "args": {}}
    write_json(
        folder / "app_server/config/config_fed_server.json", {"workflows": [workflow], "components": [tracker]}
    )
    for site in toy.sites:
        executor = {"path": CLIENT_CLASSES[0], "args": {"modality": site}}
        config = {
            "executors": [{"tasks": ["*"], "executor": executor}],
            "components": [{"path": CLIENT_CLASSES[1]}],
        }
        write_json(folder / site / "config/config_fed_client.json", config)
    return folder
