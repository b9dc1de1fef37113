# SPDX-License-Identifier: MIT
"""What of the CCAPI client needs no mount: constants, records, names, times, the mount table."""

import dataclasses
import threading

import pytest
from hypothesis import given as given_values
from hypothesis import strategies as st

from ccfs import ccapi as cc
from ccfs.ccapi import change_clock, names, records, v2
from ccfs.ccapi.error_codes import api_errors
from ccfs.format.credential import encode_credential
from ccfs.format.dialect import DIALECT_V4
from tests.support.ccapi import ALICE, V5, credential, refuses

U32 = st.integers(0, 2**32 - 1)
DATA = st.binary(max_size=40)
ENCTYPE = st.integers(-(2**15), 2**15 - 1).map(lambda n: n % 2**32)
TYPED = st.lists(st.builds(cc.cc_data, st.integers(0, 2**16 - 1), DATA), max_size=3)
PLAIN = st.builds(cc.cc_data, st.just(0), DATA)
PRINCIPAL = st.text("abz/.-é ", min_size=1).map(lambda name: name + "@EXAMPLE.COM")


@given_values(
    st.builds(
        cc.cc_credentials_v5_t,
        client=PRINCIPAL,
        server=PRINCIPAL,
        keyblock=st.builds(cc.cc_data, ENCTYPE, DATA),
        authtime=U32,
        starttime=U32,
        endtime=U32,
        renew_till=U32,
        is_skey=st.integers(0, 255),
        ticket_flags=U32,
        addresses=TYPED,
        ticket=PLAIN,
        second_ticket=PLAIN,
        authdata=TYPED,
    )
)
def test_record_round_trips(record: cc.cc_credentials_v5_t) -> None:
    union = cc.cc_credentials_union(V5, record)
    assert records.decode(records.encode(union)) == union


def test_repr_of_credential_contains_no_secret() -> None:
    union = credential(ticket=cc.cc_data(0, b"SECRET"), keyblock=cc.cc_data(18, b"SECRET"))
    assert "SECRET" not in repr(union)
    assert "EXAMPLE.COM" in repr(union)


def test_empty_address_list_equals_none() -> None:
    empty = credential(addresses=[], authdata=[])
    assert credential(addresses=None, authdata=None) == empty
    assert records.decode(records.encode(empty)) == empty


@pytest.mark.parametrize(
    "fields",
    [
        {"client": None},
        {"server": None},
        {"client": "without-a-realm"},
        {"server": ""},
        {"server": "a\0b@R"},
        {"client": "\ud800@R"},
        {"keyblock": None},
        {"keyblock": cc.cc_data(2**16, b"")},
        {"keyblock": cc.cc_data(-1, b"")},
        {"keyblock": cc.cc_data(2**32, b"")},
        {"ticket": None},
        {"ticket": cc.cc_data(1, b"")},
        {"second_ticket": cc.cc_data(1, b"")},
        {"addresses": [None]},
        {"addresses": [cc.cc_data(2**16, b"")]},
        {"authdata": [cc.cc_data(-1, b"")]},
        {"endtime": 2**32},
        {"starttime": -1},
        {"is_skey": 256},
        {"ticket_flags": 2**32},
    ],
)
def test_values_beyond_record_fields_are_refused(fields: dict[str, object]) -> None:
    refuses(cc.ccErrBadParam, records.encode, credential(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [0, 1, 3, 2**31])
def test_credentials_of_other_versions_are_refused(version: int) -> None:
    union = dataclasses.replace(credential(), version=version)
    refuses(cc.ccErrBadCredentialsVersion, records.encode, union)
    refuses(cc.ccErrBadParam, records.encode, cc.cc_credentials_union(V5, None))


def test_record_equals_file_format() -> None:
    union = credential()
    stored = records._credential(union.credentials_v5)
    assert records.encode(union) == encode_credential(stored, DIALECT_V4)


@pytest.mark.parametrize("number", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_time_offset_is_unsigned_for_caller(number: int) -> None:
    assert -(2**31) <= records.signed(number) < 2**31
    assert records.unsigned(records.signed(number)) == number


@pytest.mark.parametrize(
    "name", ["tkt.x", "tkt.", "a\0b", "x" * 256, "/" * 86, "\ud800", "é" * 128]
)
def test_invalid_names_are_refused(name: str) -> None:
    refuses(cc.ccErrBadName, names.to_directory, name)


@pytest.mark.parametrize(
    ("name", "directory"),
    [("", "%00"), ("a b", "a b"), (".", "%2E"), ("x/y%~", "x%2Fy%25%7E"), ("tkt", "tkt")],
)
def test_ccache_name_maps_to_directory_name(name: str, directory: str) -> None:
    assert names.to_directory(name) == directory
    assert names.from_directory(directory) == name


def test_non_utf8_names_keep_their_bytes() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert names.to_directory(name) == "%FF%FE"
    assert names.from_directory("%FF%FE") == name


@pytest.mark.parametrize("principal", ["", "alice", "a@b@c", "a\0@R", "a\\", "\ud800@R"])
def test_unparsable_principals_are_refused(principal: str) -> None:
    refuses(cc.ccErrBadParam, names.canonical, principal)


def test_principal_quoting_agrees_with_mount() -> None:
    assert names.canonical("a\nb\\c@R") == rb"a\nbc@R"
    assert names.canonical(ALICE) == ALICE.encode()
    longest = "a" * (names.PRINCIPAL_MAX - 2) + "@R"
    assert names.canonical(longest) == longest.encode()
    refuses(cc.ccErrBadParam, names.canonical, "a" + longest)


def test_error_names_agree_with_constants() -> None:
    codes = [name for name in cc.__all__ if name.startswith(("ccErr", "ccIteratorEnd", "ccNo"))]
    assert len(codes) == 30
    for name in codes:
        code = getattr(cc, name)
        assert cc.CCAPIError(code).name == name
        assert str(code) in str(cc.CCAPIError(code))
    assert sorted(getattr(cc, name) for name in codes) == [0, *range(201, 230)]


def test_v3_codes_map_to_v2_codes() -> None:
    wanted = {0: 0, 201: 3, 203: 6, 205: 10, 221: 10, 220: 2, 211: 1, 212: 16, 213: 9, 228: 11}
    wanted |= dict.fromkeys((214, 215, 216, 217), 8)
    wanted |= dict.fromkeys((223, 224, 225, 227, 229), 4)
    for code in range(201, 230):
        assert v2.from_v3(code) == wanted.get(code, 12), code
    for code in range(17):
        assert v2.from_v3(code) == code


def test_error_text_is_only_the_code() -> None:
    with pytest.raises(cc.CCAPIError) as caught, api_errors({}):
        raise OSError(28, "secret", "secret")
    assert caught.value.code == cc.ccErrNoMem
    assert "secret" not in str(caught.value)
    with pytest.raises(cc.CCAPIError) as caught, api_errors({}):
        int("garbled")
    assert caught.value.code == cc.ccErrBadInternalMessage


def test_change_time_never_decreases() -> None:
    times = change_clock.ChangeClock()
    assert times.last == 0
    assert times.convert("first", 1000) == 1000
    assert times.convert("first", 999) == 1000
    assert times.convert("first", 1003) == 1003
    assert times.convert("second", 500) == 1004, "a new server is a change"
    assert times.convert("second", 500) == 1004
    assert times.convert("second", 501) == 1005, "and so is each of its changes"
    times.count_lost_mount()
    gone = times.last
    assert gone > 1005
    assert times.convert("third", gone + 50) == gone + 50


def test_change_time_is_shared_by_threads() -> None:
    shared = change_clock.of("/nowhere/of-a-test")
    assert change_clock.of("/nowhere/of-a-test") is shared
    assert change_clock.of("/nowhere/else") is not shared
    seen: list[list[int]] = [[] for _ in range(4)]

    def look(mine: list[int]) -> None:
        mine += [shared.convert("server", now) for now in range(1, 500)]

    threads = [threading.Thread(target=look, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in seen)
    assert shared.last == 499
