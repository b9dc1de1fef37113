# SPDX-License-Identifier: MIT
"""Where requests begin and end in a stream: every cut, every length, and nothing kept too long."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.kcm import wire
from ccfs.kcm.wire import MemoryBudget, PartialRequest, ProtocolError, TooLarge
from tests.support.kcm import NOOP, STORE, lengthed, request

LIMIT = 200_000


def begun(size: int, room: int = 1_000_000) -> tuple[PartialRequest, MemoryBudget]:
    """A request of `size` bytes with its length, of which nothing has come."""
    left = MemoryBudget(room)
    return PartialRequest(size, LIMIT, left), left


MESSAGES = [request(NOOP), request(STORE, b"0:a\0", b"x" * 300), request(8, b"0\0")]


@pytest.mark.parametrize("message", MESSAGES)
def test_request_size_is_known_after_four_bytes(message: bytes) -> None:
    """Known with its first four bytes, whatever comes behind it."""
    assert [wire.size_of(message[:end]) for end in range(4)] == [0] * 4
    for end in range(4, len(message) + 1):
        assert wire.size_of(message[:end]) == len(message)
    assert wire.size_of(message + MESSAGES[0]) == len(message)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_request_too_short_for_opcode_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        wire.size_of(struct.pack(">I", length) + b"\2\0\0\0")


def test_request_opcode_is_decoded() -> None:
    assert [wire.opcode_of(MESSAGES[1][:end]) for end in (0, 7, 8)] == [-1, -1, STORE]


@given(st.binary(min_size=4, max_size=60), st.data())
def test_request_cut_anywhere_is_reassembled(body: bytes, data: st.DataObject) -> None:
    """However a request is cut, it comes out."""
    stream = lengthed(body)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    taken, _ = begun(len(stream))
    for start, end in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        assert taken.missing == len(stream) - start
        taken.feed(stream[start:end])
    assert not taken.missing
    assert taken.finish() == body


@pytest.mark.parametrize("length", [LIMIT + 1, 10_000_000])
def test_oversized_request_is_skipped(length: int) -> None:
    """None of it is kept."""
    taken, room = begun(4 + length)
    while taken.missing:
        taken.feed(bytes(min(taken.missing, 65_536)))
        assert taken._buffer is None
    assert taken.finish() == TooLarge(length)
    assert room.available == 1_000_000


def test_large_requests_share_room() -> None:
    """The second finds none while the first is on its way; then there is some again."""
    room, body = MemoryBudget(150_000), b"b" * 100_000
    first, second = (PartialRequest(4 + len(body), LIMIT, room) for _ in range(2))
    for one in (first, second):
        one.feed(lengthed(body))
    assert second.finish() == TooLarge(100_000)
    assert first.finish() == body
    assert room.available == 150_000


def test_small_request_needs_no_room() -> None:
    taken, _ = begun(4 + wire.SMALL, room=0)
    taken.feed(lengthed(b"c" * wire.SMALL))
    assert taken.finish() == b"c" * wire.SMALL


def test_closed_connection_returns_room() -> None:
    taken, room = begun(100_004)
    taken.feed(lengthed(b"d" * 50_000))
    assert room.available == 900_000
    taken.close()
    taken.close()
    assert room.available == 1_000_000


@pytest.mark.parametrize("version", [b"\1\0", b"\2\1", b"\0\2", b"\x7f\xff"])
def test_other_protocol_version_is_refused(version: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.check_version(version + b"\0\0")


def test_reply_has_outer_status_zero() -> None:
    """The outer status is always 0; MIT would not read on behind another one."""
    assert wire.reply(0, b"abc") == struct.pack(">Iii", 7, 0, 0) + b"abc"
    assert wire.reply(-1765328189) == struct.pack(">Iii", 4, 0, -1765328189)


@pytest.mark.parametrize(
    ("data", "single"),
    [
        (request(NOOP), True),
        (request(NOOP) + b"x", False),
        (request(NOOP)[:-1], False),
        (request(NOOP) * 2, False),
        (b"", False),
        (b"\0\0\0\3\2\0\0", False),
    ],
)
def test_single_request_is_recognised(data: bytes, single: bool) -> None:
    assert wire.is_one_request(data) is single
