# SPDX-License-Identifier: MIT
"""Configuration entries, as MIT krb5 and Heimdal write them."""

from dataclasses import replace

import pytest

from ccfs.format.ccache import decode_ccache
from ccfs.format.config import ConfigKey, config_key, is_config, make_config
from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import Principal
from ccfs.format.removed_record import placeholder_record
from tests.support.vectors import vector

TGS = b"krbtgt/KRBTEST.COM@KRBTEST.COM"
CONF = b"krb5_ccache_conf_data"
REALM = b"X-CACHECONF:"


def test_config_entry_equals_mit() -> None:
    ccache = decode_ccache(vector("mit-removed"))
    first, *_, last = ccache.credentials
    assert make_config(ccache.principal, ConfigKey(b"fast_avail", TGS), b"yes") == first
    assert make_config(ccache.principal, ConfigKey(b"kept"), b"value") == last


@pytest.mark.parametrize("name", ["mit-v1", "mit-v4", "heimdal", "java"])
def test_is_config_finds_entries_of_vectors(name: str) -> None:
    found = [c for c in decode_ccache(vector(name)).credentials if is_config(c)]
    keys = {config_key(c.server): c.ticket for c in found}
    assert (
        keys
        == {
            "mit-v1": {ConfigKey(b"fast_avail", TGS): b"yes"},
            "mit-v4": {ConfigKey(b"fast_avail", TGS): b"yes"},
            "heimdal": {
                ConfigKey(b"start_realm"): b"KRBTEST.COM",
                ConfigKey(b"fast_avail", TGS): b"yes",
            },
            "java": {},
        }[name]
    )


@pytest.mark.parametrize(
    ("server", "key"),
    [
        (Principal(0, REALM, (CONF, b"k")), ConfigKey(b"k")),
        (Principal(1, REALM, (CONF, b"k", b"p@R")), ConfigKey(b"k", b"p@R")),
        (Principal(1, REALM, (CONF, b"", b"")), ConfigKey(b"", b"")),
        (Principal(1, REALM, (CONF,)), None),
        (Principal(1, REALM, (CONF, b"k", b"p", b"q")), None),
        (Principal(1, REALM, (b"other", b"k")), None),
        (Principal(1, b"R", (CONF, b"k")), None),
        (Principal(1, REALM, ()), None),
    ],
)
def test_config_key_is_parsed(server: Principal, key: ConfigKey | None) -> None:
    assert config_key(server) == key
    if key is not None:
        assert config_key(make_config(server, key, b"").server) == key


def test_removed_config_entry_has_no_key() -> None:
    client = Principal(1, b"R", (b"alice",))
    entry = make_config(client, ConfigKey(b"k"), b"value")
    record = placeholder_record(encode_credential(entry, DIALECT_V4), DIALECT_V4)
    assert not is_config(decode_credential(record, DIALECT_V4)[0])
    assert not is_config(replace(entry, times=replace(entry.times, authtime=2**32 - 1)))
    assert is_config(entry)
