# SPDX-License-Identifier: MIT
"""Whole ccaches: vectors of other implementations, generated ones, and broken ones."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.ccache import (
    Ccache,
    Header,
    Prefix,
    Tag,
    decode_ccache,
    encode_ccache,
    encode_prefix,
    scan_prefix,
)
from ccfs.format.credential import scan_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, unparse_name
from tests.support.strategies import (
    ccaches,
    default_principals,
    dialects,
    headers,
    mutations,
    quick,
    thorough,
)
from tests.support.vectors import BROKEN, GOOD, vector

LIMIT = 8 * 1024 * 1024
ALICE = Principal(1, b"R", (b"alice",))

TGT = b"krbtgt/KRBTEST.COM@KRBTEST.COM"
HOST = b"host/www.krbtest.com@KRBTEST.COM"
ODD = rb"odd\/name\@with\ttab/and\\more@KRBTEST.COM"
FAST = rb"krb5_ccache_conf_data/fast_avail/krbtgt\/KRBTEST.COM\@KRBTEST.COM@X-CACHECONF:"
CONF = b"krb5_ccache_conf_data/%s@X-CACHECONF:"
GONE = b"krb5_ccache_conf_data/gone@X-RMED-CONF:"
HEIMDAL = [TGT, CONF % b"start_realm", FAST, HOST]

SERVERS = {
    "mit-v1": [FAST, TGT, HOST, ODD],
    "mit-v2": [FAST, TGT, HOST, ODD],
    "mit-v3": [FAST, TGT, HOST, ODD],
    "mit-v4": [FAST, TGT, HOST, ODD],
    "mit-addresses": [FAST, TGT],
    "mit-postdated": [FAST, TGT],
    "mit-removed": [FAST, TGT, HOST, GONE, CONF % b"kept"],
    "mit-second-ticket": [FAST, TGT, b"other@KRBTEST.COM"],
    "heimdal": HEIMDAL,
    "heimdal-removed": HEIMDAL,
    "java": [TGT, HOST],
    "impacket": [TGT, HOST, ODD],
    "minikerberos": [TGT, HOST, ODD],
}
DIALECTS = {
    "mit-v1": Dialect(1, False),
    "mit-v2": Dialect(2, False),
    "mit-v3": Dialect(3, True),
    "java": Dialect(3, True),
}


def test_vectors_are_all_listed() -> None:
    assert sorted(SERVERS) == GOOD
    assert len(BROKEN) == 8


@pytest.mark.parametrize("name", GOOD)
def test_vectors_decode_and_encode(name: str) -> None:
    data = vector(name)
    ccache = decode_ccache(data)
    assert encode_ccache(ccache) == data
    assert ccache.header.dialect == DIALECTS.get(name, DIALECT_V4)
    assert unparse_name(ccache.principal) == b"user@KRBTEST.COM"
    assert [unparse_name(c.server) for c in ccache.credentials] == SERVERS[name]
    assert {unparse_name(c.client) for c in ccache.credentials} == {b"user@KRBTEST.COM"}


@pytest.mark.parametrize("name", GOOD)
def test_vectors_cut_anywhere_are_incomplete(name: str) -> None:
    data = vector(name)
    prefix, body = scan_prefix(data, LIMIT) or pytest.fail("no prefix")
    ends = {body}
    for end in range(len(data)):
        cut = data[:end]
        if end < body:
            assert scan_prefix(cut, LIMIT) is None
        elif scan_credential(cut, max(ends), prefix.header.dialect, LIMIT) is not None:
            ends.add(end)
        if end in ends:
            assert encode_ccache(decode_ccache(cut)) == cut
        else:
            with pytest.raises(FormatError):
                decode_ccache(cut)
    assert len(ends) == len(SERVERS[name])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_vectors_are_refused(name: str) -> None:
    with pytest.raises(FormatError):
        decode_ccache(vector(name))


@pytest.mark.parametrize(
    "name", ["broken-version", "broken-no-ccache", "broken-count", "broken-realm-4gib"]
)
def test_broken_prefix_is_refused_at_once(name: str) -> None:
    with pytest.raises(FormatError):
        scan_prefix(vector(name)[:30], LIMIT)


@thorough
@given(ccaches())
def test_decode_undoes_encode(ccache: Ccache) -> None:
    data = encode_ccache(ccache)
    for buffer in (bytes, bytearray, memoryview):
        assert decode_ccache(buffer(data)) == ccache


@quick
@given(st.data(), st.sampled_from([bytes, bytearray]))
def test_prefix_cut_anywhere_is_incomplete(
    data: st.DataObject, buffer: Callable[[bytes], bytes]
) -> None:
    dialect = data.draw(dialects)
    prefix = Prefix(data.draw(headers(dialect)), data.draw(default_principals(dialect)))
    encoded = encode_prefix(prefix)
    for end in range(len(encoded)):
        assert scan_prefix(buffer(encoded[:end]), len(encoded)) is None
    assert scan_prefix(buffer(encoded + b"more"), len(encoded)) == (prefix, len(encoded))
    with pytest.raises(FormatError):
        scan_prefix(buffer(encoded), len(encoded) - 1)


@thorough
@given(st.data())
def test_mutated_ccache_is_decoded_or_refused(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(GOOD).map(vector) | ccaches().map(encode_ccache))
    check_any_bytes(data.draw(mutations(good)))


@thorough
@given(st.binary(max_size=40), st.sampled_from([b"", *(bytes((5, v)) for v in range(6))]))
def test_garbage_is_decoded_or_refused(garbage: bytes, start: bytes) -> None:
    check_any_bytes(start + garbage)


def check_any_bytes(data: bytes) -> None:
    """Whatever the bytes: the same bytes again, or a FormatError and no other."""
    try:
        prefix = scan_prefix(data, LIMIT)
    except FormatError:
        prefix = None
    try:
        ccache = decode_ccache(data)
    except FormatError:
        return
    assert encode_ccache(ccache) == data
    assert prefix is not None
    assert prefix[0] == Prefix(ccache.header, ccache.principal)


@pytest.mark.parametrize(
    "data",
    [
        b"\4",
        b"\5\0",
        b"\5\5",
        b"\5\4\0\1x" + bytes(20),
        b"\5\4\0\6\0\1\0\3" + bytes(20),
        b"\5\1\0\0\0\0" + bytes(4),
        b"\5\1\1\1\1\1" + bytes(4),
        b"\5\2" + bytes(4) + b"\1\0\0\1" + bytes(4),
        b"\5\3" + bytes(4) + b"\1\0\0\0",
        b"\5\4\0\0" + bytes(4) + b"\0\1\0\0",
        b"\5\4\0\0" + bytes(4) + b"\0\0\0\1\xff\xff\xff\xff",
    ],
)
def test_data_without_prefix_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        scan_prefix(data, LIMIT)


def test_header_over_64_kib_is_refused() -> None:
    largest = Header(DIALECT_V4, (Tag(7, bytes(65_531)),))
    data = encode_prefix(Prefix(largest, ALICE))
    assert scan_prefix(data, LIMIT) == (Prefix(largest, ALICE), len(data))
    for tags in ((Tag(7, bytes(65_532)),), (Tag(65_536, b""),), (Tag(7, bytes(65_536)),)):
        with pytest.raises(FormatError):
            encode_prefix(Prefix(Header(DIALECT_V4, tags), ALICE))


def test_header_tags_need_version_4() -> None:
    with pytest.raises(FormatError):
        encode_prefix(Prefix(Header(Dialect(3), (Tag(1, bytes(8)),)), ALICE))


def test_kdc_offset_is_read_and_set() -> None:
    other = Tag(2, b"kept")
    header = Header(DIALECT_V4, (other,))
    assert header.kdc_offset is None
    for seconds in (0, 1, -1, -(2**31), 2**31 - 1):
        moved = header.with_kdc_offset(seconds)
        assert moved.kdc_offset == (seconds, 0)
        assert other in moved.tags
        assert moved.with_kdc_offset(None) == header
        assert len(moved.with_kdc_offset(5).tags) == 2
    for tag, offset in ((bytes.fromhex("fffffffe 00000003"), (-2, 3)), (b"odd", None)):
        assert Header(DIALECT_V4, (Tag(1, tag),)).kdc_offset == offset
    with pytest.raises(FormatError):
        header.with_kdc_offset(2**31)
    with pytest.raises(FormatError):
        Header(Dialect(3)).with_kdc_offset(0)
    assert Header(Dialect(3)).with_kdc_offset(None) == Header(Dialect(3))


def test_kdc_offset_of_mit_header() -> None:
    assert decode_ccache(vector("mit-v4")).header.kdc_offset == (0, 0)
    assert decode_ccache(vector("heimdal")).header.kdc_offset is None


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("big_endian", [True, False])
@pytest.mark.parametrize("count", [1, 2, 255, 256, 60_000])
def test_byte_order_is_detected(version: int, big_endian: bool, count: int) -> None:
    dialect = Dialect(version, big_endian)
    principal = Principal(0, b"R", (b"",) * count)
    ccache = Ccache(Header(dialect), principal)
    assert decode_ccache(encode_ccache(ccache)) == ccache


@pytest.mark.parametrize("big_endian", [True, False])
def test_ccache_without_component_round_trips_in_either_byte_order(big_endian: bool) -> None:
    ccache = Ccache(Header(Dialect(2, big_endian)), Principal(1, b"R", ()))
    assert decode_ccache(encode_ccache(ccache)) == ccache


def test_impossible_dialects_are_refused() -> None:
    for version, big_endian in ((0, True), (5, True), (3, False), (4, False)):
        with pytest.raises(ValueError, match="versions"):
            Dialect(version, big_endian)


def test_decode_of_ten_thousand_credentials_is_fast() -> None:
    one = decode_ccache(vector("mit-v4"))
    many = Ccache(one.header, one.principal, one.credentials[2:3] * 10_000)
    data = encode_ccache(many)
    began = time.process_time()
    assert decode_ccache(bytearray(data)) == many
    assert time.process_time() - began < 5


@pytest.mark.parametrize("length", [0, 4, 7, 9, 12])
def test_kdc_offset_tag_of_wrong_length_is_refused(length: int) -> None:
    tag = b"\0\1" + length.to_bytes(2, "big") + bytes(length)
    data = b"\5\4" + len(tag).to_bytes(2, "big") + tag + b"\0\0\0\1\0\0\0\0\0\0\0\1R"
    with pytest.raises(FormatError, match="a time offset of 8 bytes"):
        scan_prefix(data, 1_000)
