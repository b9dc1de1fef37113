# SPDX-License-Identifier: MIT
"""What other implementations read in the bytes that ccfs writes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import krb5
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from impacket.krb5.ccache import CCache
from minikerberos.common.ccache import CCACHE

from ccfs.format.ccache import Ccache, decode_ccache, encode_ccache
from ccfs.format.config import ConfigKey, is_config, make_config
from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.principal import unparse_name
from ccfs.format.removed_record import is_removed, placeholder_record
from tests.support.strategies import DIALECTS, ccaches, quick
from tests.support.vectors import GOOD, vector

CONTEXT = krb5.init_context()
# libkrb5 reads versions 1 and 2 in the order of the machine that it runs on.
NATIVE = st.sampled_from(
    [d for d in DIALECTS if d.version > 2 or d.big_endian == (sys.byteorder == "big")]
)


def write(directory: Path, ccache: Ccache) -> Path:
    path = directory / "ccache"
    path.write_bytes(encode_ccache(ccache))
    path.chmod(0o600)
    return path


def by_libkrb5(path: Path) -> tuple[bytes, list[tuple[object, ...]]]:
    """The principal and the credentials, removed ones left out, as MIT krb5 reads them."""
    ccache = krb5.cc_resolve(CONTEXT, f"FILE:{path}".encode())
    found = [
        (
            _shown(c.client),
            _shown(c.server),
            c.keyblock.enctype,
            bytes(c.keyblock.data),
            tuple(seconds % 2**32 for seconds in c.times),
            c.ticket_flags_raw % 2**32,
            c.ticket,
            c.second_ticket,
        )
        for c in ccache
    ]
    return _shown(ccache.principal), found  # type: ignore[arg-type, return-value]


def by_us(ccache: Ccache) -> tuple[bytes, list[tuple[object, ...]]]:
    found = [
        (
            unparse_name(c.client),
            unparse_name(c.server),
            c.keyblock.enctype,
            c.keyblock.contents,
            (c.times.authtime, c.times.starttime, c.times.endtime, c.times.renew_till),
            c.ticket_flags,
            c.ticket,
            c.second_ticket,
        )
        for c in ccache.credentials
        if not is_removed(c)
    ]
    return unparse_name(ccache.principal), found  # type: ignore[return-value]


def _shown(principal: krb5.Principal) -> bytes:
    name: bytes = krb5.unparse_name_flags(CONTEXT, principal)
    return name


@pytest.mark.parametrize("name", [name for name in GOOD if name != "mit-removed"])
def test_libkrb5_agrees_on_vectors(name: str, tmp_path: Path) -> None:
    ccache = decode_ccache(vector(name))
    assert by_libkrb5(write(tmp_path, ccache)) == by_us(ccache)


@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ccache=ccaches(NATIVE))
def test_libkrb5_reads_encoded_ccaches(ccache: Ccache, tmp_path: Path) -> None:
    assert by_libkrb5(write(tmp_path, ccache)) == by_us(ccache)


def test_libkrb5_reads_encoded_configuration_entry(tmp_path: Path) -> None:
    ccache = decode_ccache(vector("java"))
    entry = make_config(ccache.principal, ConfigKey(b"key", b"alice@R"), b"value")
    path = write(tmp_path, replace(ccache, credentials=(entry,)))
    found = krb5.cc_resolve(CONTEXT, f"FILE:{path}".encode())
    alice = krb5.parse_name_flags(CONTEXT, b"alice@R")
    assert krb5.cc_get_config(CONTEXT, found, alice, b"key") == b"value"


def impacket(path: Path) -> list[bytes]:
    found = CCache.loadFile(str(path)).credentials
    return [bytes(c["server"].prettyPrint()) for c in found]


def minikerberos(path: Path) -> list[bytes]:
    found = CCACHE.from_file(str(path)).credentials
    return [f"{c.server.to_string('/')}@{c.server.realm.to_string()}".encode() for c in found]


@pytest.mark.parametrize("read", [impacket, minikerberos])
@pytest.mark.parametrize("number", range(4))
def test_every_reader_skips_a_placeholder(
    number: int, read: Callable[[Path], list[bytes]], tmp_path: Path
) -> None:
    ccache = decode_ccache(vector("mit-v4"))
    dialect = ccache.header.dialect
    credentials = list(ccache.credentials)
    record = encode_credential(credentials[number], dialect)
    credentials[number], _ = decode_credential(placeholder_record(record, dialect), dialect)
    path = write(tmp_path, replace(ccache, credentials=tuple(credentials)))
    del credentials[number]
    assert by_libkrb5(path) == by_us(replace(ccache, credentials=tuple(credentials)))
    left = [b"/".join(c.server.components) for c in credentials if not is_config(c)]
    assert read(path) == [name + b"@KRBTEST.COM" for name in left]
