"""A site's proof of who it is: keys are signed with its FLARE certificate, so that the server can forge none.

In the simulator and in the plain loop there are no certificates, all sites are one machine, and keys are unsigned.
A site of a provisioned federation takes no unsigned key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from fedgram.errors import ConfigError, MaskRefused

_PADDING = PSS(mgf=MGF1(SHA256()), salt_length=PSS.DIGEST_LENGTH)
_ROOT = "rootCA.pem"
_ROLE = NameOID.UNSTRUCTURED_NAME  # where FLARE writes an admin's role; no site has one


class Verifier(Protocol):
    """Anything that checks what sites have signed."""

    def require(self, site: str, text: str, signature: str, certificate: str) -> None:
        """Raise MaskRefused unless that site has signed that text."""
        ...


class Identity(Verifier, Protocol):
    """Anything that signs for a site, and checks what others have signed."""

    def sign(self, text: str) -> tuple[str, str]:
        """The signature of a text, hexadecimal, and the certificate that goes with it."""
        ...


class Unsigned:
    """No identity at all, for sites of one machine."""

    def sign(self, text: str) -> tuple[str, str]:
        """Give no signature and no certificate."""
        return "", ""

    def require(self, site: str, text: str, signature: str, certificate: str) -> None:
        """Take every key as it comes."""


@dataclass(frozen=True, kw_only=True)
class Authority:
    """The certificate authority of a federation, by which anybody checks what a site has signed.

    Attributes:
        root: its certificate.
        servers: names that are no site's: it has certified the federation's server, too.
    """

    root: x509.Certificate
    servers: frozenset[str] = frozenset()

    def require(self, site: str, text: str, signature: str, certificate: str) -> None:
        """Require a certificate of this federation in the site's name, and its signature."""
        if not signature or not certificate:
            raise MaskRefused("an unsigned key", where=site, expected="one signed with the site's certificate")
        try:
            theirs = x509.load_pem_x509_certificate(certificate.encode())
            theirs.verify_directly_issued_by(self.root)
            key, names = theirs.public_key(), theirs.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            if not isinstance(key, RSAPublicKey) or [name.value for name in names] != [site]:
                raise MaskRefused("a certificate of somebody else", where=site, expected="one in the site's name")
            if site in self.servers or theirs.subject.get_attributes_for_oid(_ROLE):
                raise MaskRefused("a certificate of the server or of an admin", where=site, expected="a site's")
            key.verify(bytes.fromhex(signature), text.encode(), _PADDING, SHA256())
        except (ValueError, TypeError, InvalidSignature) as error:
            raise MaskRefused(
                f"keys that it has not signed ({type(error).__name__})",
                where=site,
                expected="a certificate of this federation and its signature",
            ) from error


@dataclass(frozen=True, kw_only=True)
class Certified(Authority):
    """The identity that provisioning has given to a site.

    Attributes:
        root, servers: of the federation's certificate authority.
        own: the site's certificate.
        key: its private key.
    """

    own: x509.Certificate
    key: RSAPrivateKey

    def sign(self, text: str) -> tuple[str, str]:
        """Sign with the key of the site's certificate."""
        signature = self.key.sign(text.encode(), _PADDING, SHA256())
        return signature.hex(), self.own.public_bytes(Encoding.PEM).decode()


def find_authority(startup: Path) -> Verifier:
    """The certificate authority in a kit's ``startup`` folder; none where nothing was provisioned.

    Raises:
        ConfigError: it is damaged.
    """
    path = startup / _ROOT
    return Authority(root=_certificate(path)) if path.exists() else Unsigned()


def find_identity(startup: Path) -> Identity:
    """The identity in a kit's ``startup`` folder; none where nothing was provisioned.

    Raises:
        ConfigError: a part of it is missing or damaged.
    """
    root, own, key = (startup / name for name in (_ROOT, "client.crt", "client.key"))
    if not root.exists():
        return Unsigned()
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(key, error) from None
    if not isinstance(private, RSAPrivateKey):
        raise ConfigError(f"a key of kind {type(private).__name__}", where=key, expected="RSA, as FLARE makes it")
    return Certified(root=_certificate(root), servers=_servers(startup), own=_certificate(own), key=private)


def _servers(startup: Path) -> frozenset[str]:
    """The names in the certificates of the servers that a site's kit knows."""
    path = startup / "fed_client.json"
    try:
        return frozenset(server["identity"] for server in json.loads(path.read_bytes())["servers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"cannot be read ({type(error).__name__})",
        where=path,
        remedy="restore it from the kit that provisioning has made",
    )
