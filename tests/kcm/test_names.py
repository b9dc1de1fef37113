# SPDX-License-Identifier: MIT
"""Names and UUIDs as KCM has them."""

import random

import pytest

from ccfs.kcm import uuids
from ccfs.kcm.names import Names
from ccfs.store.errors import BadNameError


@pytest.mark.parametrize(
    ("uid", "name", "ccache"),
    [
        (1000, b"1000", None),
        (1000, b"", None),
        (1000, b"1000:", b""),
        (1000, b"1000:x", b"x"),
        (1000, b"1000:a:b/c", b"a:b/c"),
        (0, b"0:x", b"x"),
        (0, b"0", None),
    ],
)
def test_name_of_own_uid_maps_to_ccache(uid: int, name: bytes, ccache: bytes | None) -> None:
    names = Names(uid)
    assert names.ccache(name) == ccache
    if ccache is not None:
        assert names.of(ccache) == name


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (1000, b"x"),
        (1000, b":x"),
        (1000, b"1001:x"),
        (1000, b"10001:x"),
        (1000, b"100:x"),
        (1000, b"01000:x"),
        (1000, b" 1000:x"),
        (1000, b"+1000:x"),
        (1000, b"1000x"),
        (0, b"00:x"),
        (0, b"0x"),
        (10, b"100:a"),
    ],
)
def test_name_of_other_uid_maps_to_none(uid: int, name: bytes) -> None:
    with pytest.raises(BadNameError):
        Names(uid).ccache(name)


def test_uuid_round_trips() -> None:
    choose = random.Random(7)
    serials = [0, 1, 2, 1_700_000_000_000, *(choose.getrandbits(60) for _ in range(500))]
    made = [uuids.uuid(serial) for serial in serials]
    assert [uuids.serial(one) for one in made] == serials
    assert len(set(made)) == len(serials)
    assert {len(one) for one in made} == {16}


def test_uuids_of_neighbouring_serials_look_random() -> None:
    """Of two serial numbers in a row about half of the bits differ."""
    for serial in range(1_700_000_000_000, 1_700_000_000_050):
        one, other = (int.from_bytes(uuids.uuid(n), "big") for n in (serial, serial + 1))
        assert 30 < (one ^ other).bit_count() < 98


def test_any_16_bytes_are_a_uuid() -> None:
    for data in (b"\xff" * 16, bytes(16), b"\x80" + bytes(15)):
        assert uuids.serial(data) >= 0
