"""Checks of certificates, and of the way to the server."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from fedgram.checks.doctor.visit import Finding, Kit, Visit
from fedgram.errors import ConfigError

_SOON = timedelta(days=30)
_SECONDS = 3.0
_RENEW = "have the kit provisioned again (docs/federation.md, renew certificates)"


def certificates(visit: Visit) -> Iterator[Finding]:
    """Check that the participant's certificate is its own, of this federation and valid, and its key private."""
    kit = visit.kit
    root, own = _certificate(kit, "ssl_root_cert"), _certificate(kit, "ssl_cert")
    faults = [*_faults(kit, root, own), *_validity("certificate", own), *_validity("root certificate", root)]
    yield from faults
    if not faults:
        end = min(own.not_valid_after_utc, root.not_valid_after_utc)
        text = f"certificate of {_common_name(own)}, signed by {_common_name(root)}, its key private"
        yield Finding("ok", f"{text}; valid until {end:%Y-%m-%d}")


def _faults(kit: Kit, root: x509.Certificate, own: x509.Certificate) -> Iterator[Finding]:
    name = _common_name(own)
    if kit.side == "client" and name != kit.name:
        yield Finding("failure", f"the certificate is that of {name}, the kit that of {kit.name}", _RENEW)
    try:
        own.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        yield Finding("failure", "the certificate is not signed by rootCA.pem: one of them is foreign", _RENEW)
    path = _path(kit, "ssl_private_key")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"not a private key ({type(error).__name__})", where=path, remedy=_RENEW) from None
    if key.public_key() != own.public_key():
        yield Finding("failure", f"{path.name} does not belong to the certificate", _RENEW)
    if path.stat().st_mode & stat.S_IRWXO:
        yield Finding("failure", f"{path} can be read by everybody on this machine", f"chmod 600 {path}")
    security = kit.settings.get("connection_security", "mtls")
    if security != "mtls":
        yield Finding(
            "failure",
            f"connection_security is {security!r}: not both sides show a certificate",
            "provision with mtls",
        )


def _validity(label: str, certificate: x509.Certificate) -> Iterator[Finding]:
    now, end = datetime.now(UTC), certificate.not_valid_after_utc
    if now > end:
        yield Finding("failure", f"the {label} expired on {end:%Y-%m-%d}", _RENEW)
    elif now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc
        yield Finding(
            "failure", f"the {label} is valid from {start:%Y-%m-%d %H:%M} UTC", "set this machine's clock"
        )
    elif end - now < _SOON:
        yield Finding("warning", f"the {label} expires on {end:%Y-%m-%d}, in {(end - now).days} days", _RENEW)


def _certificate(kit: Kit, key: str) -> x509.Certificate:
    path = _path(kit, key)
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise ConfigError("not a certificate", where=path, remedy=_RENEW) from None


def _path(kit: Kit, key: str) -> Path:
    path = kit.folder / "startup" / str(kit.settings.get(key))
    if not path.is_file():
        raise ConfigError("missing", where=path, remedy=_RENEW)
    return path


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def server_address(visit: Visit) -> Iterator[Finding]:
    """Check that something answers at the server's address, by a TCP connection that registers nothing."""
    host, port = visit.kit.host, visit.kit.port
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except socket.gaierror:
        yield Finding(
            "warning",
            f"no machine is known by the name {host}",
            "ask for its address: DNS, or a line in /etc/hosts",
        )
    except OSError as error:
        yield Finding(
            "warning",
            f"{host}:{port} does not answer ({type(error).__name__})",
            f"either the server is down, or a firewall between here and it closes outgoing TCP port {port}",
        )
    else:
        yield Finding("ok", f"{host}:{port} answers")
