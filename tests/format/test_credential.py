# SPDX-License-Identifier: MIT
"""Records: coding, scanning, and those that are marked as removed."""

import time
from collections.abc import Callable
from dataclasses import replace
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.ccache import decode_ccache
from ccfs.format.credential import (
    Credential,
    Keyblock,
    Times,
    TypedData,
    decode_credential,
    encode_credential,
    scan_credential,
)
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.outline import removed_at
from ccfs.format.principal import Principal
from ccfs.format.removed_record import is_removed, placeholder_record
from tests.support.strategies import (
    DIALECTS,
    dialects,
    mutations,
    quick,
    thorough,
    written_credentials,
)
from tests.support.vectors import vector

MIB = 1024 * 1024
LIMIT = 8 * MIB

ALICE = Principal(1, b"R", (b"alice",))
HOST = Principal(1, b"R", (b"host", b"www"))
SECRET = b"secret bytes"
EXAMPLE = Credential(
    client=ALICE,
    server=HOST,
    keyblock=Keyblock(18, SECRET),
    times=Times(1, 2, 3, 4),
    is_skey=0,
    ticket_flags=0x40000000,
    addresses=(TypedData(2, bytes((192, 0, 2, 7))),),
    authdata=(TypedData(1, SECRET),),
    ticket=SECRET * 20,
    second_ticket=SECRET,
)


def changed(**times: int) -> Credential:
    return replace(EXAMPLE, times=replace(EXAMPLE.times, **times))


@thorough
@given(written_credentials(), st.sampled_from([bytes, bytearray, memoryview]))
def test_decode_undoes_encode(
    written: tuple[Dialect, Credential], buffer: Callable[[bytes], bytes]
) -> None:
    dialect, credential = written
    encoded = encode_credential(credential, dialect)
    around = buffer(b"\xff" * 5 + encoded + b"\xff")
    decoded, end = decode_credential(around, dialect, 5)
    assert (decoded, end) == (credential, 5 + len(encoded))
    assert type(decoded.ticket) is bytes


@quick
@given(written_credentials())
def test_record_cut_anywhere_is_incomplete(written: tuple[Dialect, Credential]) -> None:
    dialect, credential = written
    encoded = encode_credential(credential, dialect)
    for end in range(len(encoded)):
        cut = encoded[:end]
        assert scan_credential(cut, 0, dialect, len(encoded)) is None
        with pytest.raises(FormatError):
            decode_credential(cut, dialect)
    assert scan_credential(encoded, 0, dialect, len(encoded)) == len(encoded)
    assert scan_credential(bytearray(b"x" + encoded + b"y"), 1, dialect, LIMIT) == len(encoded) + 1


@quick
@given(written_credentials())
def test_record_over_limit_is_refused(written: tuple[Dialect, Credential]) -> None:
    dialect, credential = written
    encoded = encode_credential(credential, dialect)
    with pytest.raises(FormatError):
        scan_credential(encoded, 0, dialect, len(encoded) - 1)
    with pytest.raises(FormatError):
        scan_credential(encoded[:-1], 0, dialect, len(encoded) - 1)


@thorough
@given(st.data())
def test_mutated_record_is_decoded_or_refused(data: st.DataObject) -> None:
    dialect, credential = data.draw(written_credentials())
    mutated = data.draw(mutations(encode_credential(credential, dialect)))
    check_any_bytes(mutated, dialect)


@thorough
@given(st.binary(max_size=200), dialects)
def test_garbage_is_decoded_or_refused(garbage: bytes, dialect: Dialect) -> None:
    check_any_bytes(garbage, dialect)


def check_any_bytes(data: bytes, dialect: Dialect) -> None:
    """Whatever the bytes: one answer by both ways of reading, and no other error."""
    try:
        end = scan_credential(data, 0, dialect, LIMIT)
    except FormatError:
        end = None
    if end is None:
        with pytest.raises(FormatError):
            decode_credential(data, dialect)
        return
    decoded, decoded_end = decode_credential(data, dialect)
    assert decoded_end == end
    assert encode_credential(decoded, dialect) == data[:end]
    assert removed_at(data, 0, dialect) == is_removed(decoded)


COUNTS = {
    "client": (4, 4),
    "server": (8 + 5 + 9 + 4, 4),
    "addresses": (-len(SECRET) * 21 - 8 - 4 - 6 - len(SECRET) - 4 - 10, 6),
    "authdata": (-len(SECRET) * 21 - 8 - 4 - 6 - len(SECRET), 6),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("value", [0xFFFFFFFF, 0x80000000, 65_536])
def test_impossible_counts_are_refused_at_once(count: str, value: int) -> None:
    encoded = encode_credential(EXAMPLE, DIALECT_V4)
    at = COUNTS[count][0] % len(encoded)
    assert int.from_bytes(encoded[at : at + 4], "big") in (1, 2)
    wrong = encoded[:at] + pack(">I", value)
    with pytest.raises(FormatError) as caught:
        scan_credential(wrong, 0, DIALECT_V4, 1 << 40)
    assert caught.value.offset == at
    with pytest.raises(FormatError):
        decode_credential(wrong + encoded[at + 4 :], DIALECT_V4)


@pytest.mark.parametrize("count", COUNTS)
def test_counts_over_limit_are_refused_at_once(count: str) -> None:
    encoded = encode_credential(EXAMPLE, DIALECT_V4)
    at, size = COUNTS[count][0] % len(encoded), COUNTS[count][1]
    wrong = encoded[:at] + pack(">I", 1000)
    # A principal's realm comes beside the components.
    needed = at + 4 + 1000 * size + (size if size == 4 else 0)
    assert scan_credential(wrong, 0, DIALECT_V4, needed + 1) is None
    with pytest.raises(FormatError):
        scan_credential(wrong, 0, DIALECT_V4, needed - 1)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_four_gigabyte_lengths_are_refused_at_once(dialect: Dialect) -> None:
    encoded = encode_credential(EXAMPLE, dialect)
    order = "big" if dialect.big_endian else "little"
    refused = 0
    for part in (b"R", b"alice", b"www", SECRET, SECRET * 20):
        length = len(part).to_bytes(4, order)  # type: ignore[arg-type]
        at = encoded.index(length + part)
        wrong = encoded[:at] + b"\xff\xff\xff\xff"
        with pytest.raises(FormatError):
            scan_credential(wrong, 0, dialect, LIMIT)
        refused += 1
    assert refused == 5


def test_megabyte_principal_is_decoded() -> None:
    big = replace(EXAMPLE, server=Principal(1, b"R", (b"x" * MIB,)))
    encoded = encode_credential(big, DIALECT_V4)
    assert scan_credential(encoded, 0, DIALECT_V4, LIMIT) == len(encoded)
    assert decode_credential(encoded, DIALECT_V4)[0] == big
    with pytest.raises(FormatError):
        scan_credential(encoded[:1000], 0, DIALECT_V4, MIB)


def test_scan_time_is_bounded() -> None:
    """As many empty components as there can be, and one more piece missing."""
    slow = replace(EXAMPLE, client=Principal(1, b"R", (b"",) * 65_534))
    encoded = encode_credential(slow, DIALECT_V4)[:-1]
    began = time.process_time()
    assert scan_credential(encoded, 0, DIALECT_V4, LIMIT) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "wrong",
    [
        changed(endtime=2**32),
        changed(authtime=-1),
        replace(EXAMPLE, is_skey=256),
        replace(EXAMPLE, is_skey=-1),
        replace(EXAMPLE, ticket_flags=2**32),
        replace(EXAMPLE, keyblock=Keyblock(2**15, b"")),
        replace(EXAMPLE, addresses=(TypedData(2**16, b""),)),
        replace(EXAMPLE, authdata=(TypedData(1, b""),) * 65_536),
    ],
    ids=lambda c: "",
)
def test_encode_refuses_values_out_of_range(wrong: Credential) -> None:
    with pytest.raises(FormatError):
        encode_credential(wrong, DIALECT_V4)


def test_repr_and_errors_contain_no_secret() -> None:
    encoded = encode_credential(EXAMPLE, DIALECT_V4)
    shown = repr(EXAMPLE)
    for end in range(len(encoded)):
        with pytest.raises(FormatError) as caught:
            decode_credential(encoded[:end], DIALECT_V4)
        shown += str(caught.value) + repr(caught.value)
    assert "secret" not in shown
    assert "alice" in shown


GSSPROXY = replace(
    EXAMPLE,
    server=Principal(1, b"X-GSSPROXY:", (b"Encrypted", b"Credentials", b"v1")),
    times=Times(0, 0, 0, 0),
)
REMOVED_CONFIG = Principal(1, b"X-RMED-CONF:", (b"krb5_ccache_conf_data", b"pa_type"))


@pytest.mark.parametrize(
    ("credential", "removed"),
    [
        (EXAMPLE, False),
        (changed(endtime=0, authtime=2**32 - 1), True),
        (changed(endtime=0), False),
        (changed(authtime=2**32 - 1), False),
        (GSSPROXY, False),
        (replace(EXAMPLE, server=REMOVED_CONFIG), True),
        (replace(EXAMPLE, client=REMOVED_CONFIG), False),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_is_removed_recognises_marks(
    credential: Credential, removed: bool, dialect: Dialect
) -> None:
    encoded = bytearray(b"xy" + encode_credential(credential, dialect))
    assert is_removed(credential) is removed
    assert removed_at(encoded, 2, dialect) is removed


def test_is_removed_agrees_with_clients() -> None:
    """What MIT's krb5_cc_remove_cred marks is removed; Heimdal's mark can't be told from others."""
    ccache = decode_ccache(vector("mit-removed"))
    assert [is_removed(c) for c in ccache.credentials] == [False, False, True, True, False]
    ccache = decode_ccache(vector("heimdal-removed"))
    assert [c.times.endtime == 0 for c in ccache.credentials] == [False, False, False, True]
    assert not any(is_removed(c) for c in ccache.credentials)


def test_removed_at_needs_a_whole_record() -> None:
    with pytest.raises(FormatError):
        removed_at(b"\0" * 30, 0, DIALECT_V4)


@thorough
@given(written_credentials())
def test_placeholder(written: tuple[Dialect, Credential]) -> None:
    dialect, credential = written
    record = encode_credential(credential, dialect)
    check_placeholder(record, dialect)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_placeholder_of_a_ticket_is_a_configuration_entry(dialect: Dialect) -> None:
    made = check_placeholder(encode_credential(EXAMPLE, dialect), dialect)
    assert made.server.realm == b"X-CACHECONF:"
    assert made.server.components == (b"krb5_ccache_conf_data", b"removed")
    assert made.client.components == ALICE.components


def test_placeholder_of_the_shortest_configuration_entry() -> None:
    entry = replace(
        GSSPROXY,
        server=Principal(1, b"X-CACHECONF:", (b"krb5_ccache_conf_data", b"a")),
        keyblock=Keyblock(0, b""),
        addresses=(),
        authdata=(),
        ticket=b"",
        second_ticket=b"",
    )
    made = check_placeholder(encode_credential(entry, DIALECT_V4), DIALECT_V4)
    assert made.server.components == (b"krb5_ccache_conf_data", b"r")


def check_placeholder(record: bytes, dialect: Dialect) -> Credential:
    made = placeholder_record(record, dialect)
    assert len(made) == len(record)
    assert scan_credential(made, 0, dialect, LIMIT) == len(record)
    assert removed_at(made, 0, dialect)
    credential, _ = decode_credential(made, dialect)
    secrets = (credential.keyblock.contents, credential.ticket, credential.second_ticket)
    assert not any(b"".join((*secrets, *(a.contents for a in credential.authdata))))
    assert SECRET not in made
    return credential


def test_placeholder_wants_one_record() -> None:
    record = encode_credential(EXAMPLE, DIALECT_V4)
    for wrong in (record[:-1], record + b"\0"):
        with pytest.raises(FormatError):
            placeholder_record(wrong, DIALECT_V4)
