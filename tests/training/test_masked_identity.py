"""Keys signed with certificates as FLARE makes them: the server, between two sites, can put in none of its own."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fedgram.errors import ConfigError, MaskRefused, RoundFailed
from fedgram.training.masked.identity import Authority, Certified, Unsigned, find_authority, find_identity
from fedgram.training.masked.messages import CONFIRM, KEYS, MASKED, REVEAL, SHARES, SumCall
from test_masked_sum import SIX, Sites, a_sum, assert_sum, member, value_of

FOUR = SIX[:4]
FILES = ("rootCA.pem", "client.crt", "client.key", "fed_client.json")
OTHERS = {"server": "", "admin": "lead"}  # by the role in their certificate


def named(name: str, role: str = "") -> x509.Name:
    roles = [x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, role)] if role else []
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), *roles])


def certificate(
    name: str, key: RSAPrivateKey, authority: str, authority_key: RSAPrivateKey, role: str = ""
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(named(name, role)).issuer_name(named(authority))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(authority_key, SHA256())


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The startup folders of four sites, of one whose federation is another, of the server and of an admin."""
    folder, keys = tmp_path_factory.mktemp("kits"), {}
    for name in ("root", "other", *OTHERS, *FOUR):
        keys[name] = generate_private_key(65537, 1024)  # small, for the test's sake
    found = {}
    for name, root in [*((name, "root") for name in (*FOUR, *OTHERS)), ("foreign", "other")]:
        key, place = keys.get(name, keys["ant"]), folder / name
        place.mkdir()
        for file, made in (
            ("rootCA.pem", certificate(root, keys[root], root, keys[root])),
            (
                "client.crt",
                certificate("ant" if name == "foreign" else name, key, root, keys[root], OTHERS.get(name, "")),
            ),
        ):
            (place / file).write_bytes(made.public_bytes(Encoding.PEM))
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (place / "client.key").write_bytes(plain)
        (place / "fed_client.json").write_text(json.dumps({"servers": [{"identity": "server"}]}))
        found[name] = place
    return found


def sites_of(kits: Mapping[str, Path], folder: Path, **options: Any) -> Sites:
    return Sites([member(name, folder, identity=find_identity(kits[name])) for name in FOUR], **options)


def calls_to(sites: Sites, name: str) -> dict[str, SumCall]:
    assert_sum(a_sum().gather(FOUR, sites.ask), FOUR)
    return {phase: calls[name] for phase, calls in sites.calls.items()}


def test_signed_keys_give_the_sum_and_others_are_refused(kits: dict[str, Path], tmp_path: Path):
    sites = sites_of(kits, tmp_path)
    calls = calls_to(sites, "ant")
    ant, call = sites.members["ant"], calls[SHARES]
    foreign = member("bee", tmp_path, identity=find_identity(kits["foreign"])).keys(calls[KEYS])
    forged = replace(
        call,
        cards={**call.cards, "bee": foreign.card},
        signatures={**call.signatures, "bee": foreign.signature},
        certificates={**call.certificates, "bee": foreign.certificate},
    )
    cats_signature = {"signatures": {**call.signatures, "bee": call.signatures["cat"]}}
    cats = {"certificates": {**call.certificates, "bee": call.certificates["cat"]}}
    for tried, said in (
        (replace(call, signatures={}), "an unsigned key"),
        (replace(call, certificates={}), "an unsigned key"),
        (replace(call, **cats_signature), "bee: keys that it has not signed"),
        (replace(call, signatures={**call.signatures, "bee": "zz"}), "bee: keys that it has not signed"),
        (replace(call, **cats), "bee: a certificate of somebody else"),
        (replace(call, certificates={**call.certificates, "bee": "-"}), "bee: keys that it has not signed"),
        (forged, "bee: keys that it has not signed"),
    ):
        with pytest.raises(MaskRefused, match=said):
            ant.shares(tried)


@pytest.mark.parametrize("other", sorted(OTHERS))
def test_neither_the_server_nor_an_admin_is_a_site(kits: dict[str, Path], tmp_path: Path, other: str):
    """Both have certificates of the same authority: as a third site either would see what two sites add up to."""
    names = ("ant", "bee", other)
    sites = Sites([member(name, tmp_path, identity=find_identity(kits[name])) for name in names])
    with pytest.raises(RoundFailed, match=f"{other}: a certificate of the server or of an admin"):
        a_sum().gather(names, sites.ask)
    assert [phase for phase, _ in sites.sent] == [KEYS] * 3
    with pytest.raises(MaskRefused, match=f"{other}: a certificate of the server or of an admin"):
        sites.members["ant"].peers(sites.calls[SHARES]["ant"])


def test_the_server_leaves_an_admin_out_and_the_sites_go_on(kits: dict[str, Path], tmp_path: Path):
    names = (*FOUR, "admin")
    sites = Sites([member(name, tmp_path, identity=find_identity(kits[name])) for name in names])
    current = a_sum(authority=find_authority(kits["ant"]))
    assert_sum(current.gather(names, sites.ask), FOUR)
    assert "admin: a certificate of the server or of an admin" in current.rejected["admin"]


def test_what_others_have_signed_about_masks_and_sum_is_looked_at(kits: dict[str, Path], tmp_path: Path):
    sites = sites_of(kits, tmp_path)
    calls, ant = calls_to(sites, "ant"), sites.members["ant"]
    with pytest.raises(MaskRefused, match="bee: keys that it has not signed"):
        ant.confirm(replace(calls[CONFIRM], marks={**calls[CONFIRM].marks, "bee": calls[CONFIRM].marks["cat"]}))
    with pytest.raises(MaskRefused, match="an unsigned key"):
        ant.reveal(replace(calls[REVEAL], confirmed=dict.fromkeys(FOUR, "")))


def test_a_server_that_tells_sites_apart_about_sharers_or_survivors_is_found_out(
    kits: dict[str, Path], tmp_path: Path
):
    """What one signs of another list than the others' counts nowhere."""
    sites = sites_of(kits, tmp_path)
    calls, three = calls_to(sites, "ant"), FOUR[:3]
    fresh = sites_of(kits, tmp_path / "elsewhere").members
    call = replace(calls[MASKED], sharers=three)
    mark = fresh["bee"].mask(call, value_of("bee")).mark
    with pytest.raises(MaskRefused, match="bee: keys that it has not signed"):
        sites.members["ant"].confirm(replace(calls[CONFIRM], marks={**calls[CONFIRM].marks, "bee": mark}))
    for name in ("ant", "cat"):
        fresh[name].mask(calls[MASKED], value_of(name))
    left = replace(calls[CONFIRM], marks={name: calls[CONFIRM].marks[name] for name in three})
    signed = {name: fresh[name].confirm(left).signature for name in ("ant", "cat")}
    with pytest.raises(MaskRefused, match="bee: keys that it has not signed"):
        fresh["ant"].reveal(replace(left, confirmed={**calls[REVEAL].confirmed, **signed}))


def test_a_site_without_certificate_is_left_out_by_the_server_which_sees_to_it_that_the_others_go_on(
    kits: dict[str, Path], tmp_path: Path
):
    """A server that would not look could keep all others from the sum, but not take the key in."""
    sites = sites_of(kits, tmp_path)
    sites.members["dog"] = replace(sites.members["dog"], identity=Unsigned())
    with pytest.raises(RoundFailed, match="1 sites gave shares"):
        a_sum().gather(FOUR, sites.ask)
    current = a_sum(authority=find_authority(kits["ant"]))
    assert_sum(current.gather(FOUR, sites.ask), FOUR[:3])
    assert "dog: an unsigned key" in current.rejected["dog"]


def test_a_kit_says_who_a_site_is_and_a_damaged_one_what_is_wrong(kits: dict[str, Path], tmp_path: Path):
    assert isinstance(find_identity(kits["ant"]), Certified)
    assert isinstance(find_identity(tmp_path), Unsigned)
    (tmp_path / "rootCA.pem").write_text("damaged")
    for name in FILES[1:]:
        shutil.copy(kits["ant"] / name, tmp_path)
    with pytest.raises(ConfigError, match=r"rootCA.pem: cannot be read"):
        find_identity(tmp_path)
    for name in FILES:
        shutil.copy(kits["ant"] / name, tmp_path)
    (tmp_path / "client.key").write_text("damaged")
    with pytest.raises(ConfigError, match=r"client.key: cannot be read .*\n  remedy: restore it"):
        find_identity(tmp_path)
    shutil.copy(kits["ant"] / "client.key", tmp_path)
    (tmp_path / "fed_client.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"fed_client.json: cannot be read \(KeyError\)\n  remedy: restore it"):
        find_identity(tmp_path)
    assert isinstance(find_authority(kits["ant"]), Authority)
    assert isinstance(find_authority(tmp_path / "none"), Unsigned)
