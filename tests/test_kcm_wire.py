"""Where requests begin and end in a stream: every cut, every length, and nothing kept too long."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.kcm import wire
from ccfs.kcm.wire import ProtocolError, Requests, Room, TooLarge
from tests.kcm import NOOP, STORE, lengthed, request

LIMIT = 200_000


def requests(room: int = 1_000_000) -> tuple[Requests, Room]:
    left = Room(room)
    return Requests(LIMIT, left), left


def drain(reader: Requests) -> list[bytes | TooLarge]:
    found = []
    while (one := reader.take()) is not None:
        found.append(one)
    return found


MESSAGES = [request(NOOP), request(STORE, b"0:a\0", b"x" * 300), request(8, b"0\0")]


def test_a_byte_at_a_time() -> None:
    """Each request is there with its last byte, not before."""
    reader, _ = requests()
    found, ends = [], []
    for at, byte in enumerate(b"".join(MESSAGES), 1):
        reader.feed(bytes([byte]))
        for one in drain(reader):
            found.append(one)
            ends.append(at)
    assert found == [message[4:] for message in MESSAGES]
    sizes = [len(message) for message in MESSAGES]
    assert ends == [sum(sizes[:n]) for n in (1, 2, 3)]
    assert reader.idle


@given(st.lists(st.binary(min_size=4, max_size=60), max_size=8), st.data())
def test_any_cut(bodies: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut, the same requests come out."""
    stream = b"".join(map(lengthed, bodies))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    edges = [0, *sorted(cuts), len(stream)]
    reader, _ = requests()
    found = []
    for start, end in itertools.pairwise(edges):
        reader.feed(stream[start:end])
        found += drain(reader)
    assert found == bodies


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_too_short_for_an_opcode(length: int) -> None:
    reader, _ = requests()
    reader.feed(struct.pack(">I", length) + b"\2\0\0\0")
    with pytest.raises(ProtocolError):
        reader.take()


@pytest.mark.parametrize("length", [LIMIT + 1, 10_000_000])
def test_a_request_over_the_limit_is_passed_over(length: int) -> None:
    """None of it is kept, and the next one is found."""
    reader, room = requests()
    reader.feed(struct.pack(">I", length) + b"x" * 100)
    assert reader.take() is None
    left = length - 100
    while left:
        piece = min(left, 65_536)
        reader.feed(b"x" * piece)
        left -= piece
        found = drain(reader)
        assert len(reader._buffer) == 0
    assert found == [TooLarge(length)]
    reader.feed(MESSAGES[0])
    assert drain(reader) == [MESSAGES[0][4:]]
    assert room.left == 1_000_000


def test_a_length_of_four_gigabytes_takes_no_memory() -> None:
    reader, room = requests()
    reader.feed(b"\xff\xff\xff\xff" + b"y" * 100_000)
    assert reader.take() is None
    assert not reader._buffer
    assert room.left == 1_000_000
    assert not reader.idle


def test_large_requests_share_the_room() -> None:
    """The second finds none while the first is on its way; then there is some again."""
    room = Room(150_000)
    first, second = Requests(LIMIT, room), Requests(LIMIT, room)
    body = b"b" * 100_000
    first.feed(lengthed(body)[:-1])
    assert first.take() is None
    second.feed(lengthed(body))
    assert drain(second) == [body]  # it was there at once, and never had to wait
    second.feed(lengthed(body)[:-1])
    assert second.take() is None
    second.feed(b"b")
    assert drain(second) == [TooLarge(100_000)]
    first.feed(b"b")
    assert drain(first) == [body]
    assert room.left == 150_000


def test_a_small_request_needs_no_room() -> None:
    reader, _ = requests(room=0)
    reader.feed(lengthed(b"c" * wire.SMALL)[:-1])
    assert reader.take() is None
    reader.feed(b"c")
    assert drain(reader) == [b"c" * wire.SMALL]


def test_who_leaves_gives_the_room_back() -> None:
    reader, room = requests()
    reader.feed(lengthed(b"d" * 100_000)[:-1])
    assert reader.take() is None
    assert room.left == 900_000
    reader.close()
    reader.close()
    assert room.left == 1_000_000


@pytest.mark.parametrize("version", [b"\1\0", b"\2\1", b"\0\2", b"\x7f\xff"])
def test_another_version(version: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.check_version(version + b"\0\0")


def test_what_a_reply_looks_like() -> None:
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
def test_whether_a_piece_is_one_request(data: bytes, single: bool) -> None:
    assert wire.single(data) is single
