# SPDX-License-Identifier: MIT
"""What a ticket says of its key: real tickets, made ones, and garbage."""

import time

import asn1
import pytest
from asn1 import Classes, Encoder
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.ccache import decode_ccache
from ccfs.format.ticket import TicketInfo, ticket_info
from tests.support.strategies import mutations, thorough
from tests.support.vectors import vector

REAL = decode_ccache(vector("mit-v4")).credentials[-1].ticket
USER_TO_USER = decode_ccache(vector("mit-second-ticket")).credentials[-1].ticket


def encrypted_data(etype: int, kvno: int | None, cipher: bytes = bytes(100)) -> bytes:
    encoder = Encoder()
    encoder.start()
    with encoder.construct(3, Classes.Context), encoder.sequence():  # type: ignore[attr-defined]
        fields = ((0, etype), (1, kvno), (2, cipher))
        for number, value in fields:
            if value is not None:
                with encoder.construct(number, Classes.Context):  # type: ignore[attr-defined]
                    encoder.write(value)
    return encoder.output()


def element(tag: int, contents: bytes) -> bytes:
    size = len(contents).to_bytes(4, "big")
    return bytes((tag, 0x84)) + size + contents


def ticket(enc_part: bytes, realm: bytes = b"R", version: int = 5) -> bytes:
    names = element(0xA1, b"\x1b" + element(0, realm)[1:]) + element(0xA2, element(0x30, b""))
    return element(0x61, element(0x30, bytes((0xA0, 3, 2, 1, version)) + names + enc_part))


@pytest.mark.parametrize(
    ("der", "info"),
    [
        (REAL, TicketInfo(18, 1)),
        (USER_TO_USER, TicketInfo(18, None)),
        (ticket(encrypted_data(17, 2)), TicketInfo(17, 2)),
        (ticket(encrypted_data(-128, None)), TicketInfo(-128, None)),
        (ticket(encrypted_data(23, 2**32 - 1)), TicketInfo(23, 2**32 - 1)),
        (ticket(encrypted_data(18, 3, bytes(100_000)), b"R" * 300_000), TicketInfo(18, 3)),
        (ticket(encrypted_data(2**33, 1)), None),
        (ticket(encrypted_data(18, 2**32)), None),
        (ticket(encrypted_data(18, 1), version=4), None),
        (ticket(b""), None),
        (b"", None),
        (b"yes", None),
        (bytes(500), None),
        (REAL[:-1], None),
        (b"\x61\x80" + REAL[4:], None),
        (b"\x61\x84\xff\xff\xff\xff", None),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_ticket_info_has_kvno_and_enctype(der: bytes, info: TicketInfo | None) -> None:
    assert ticket_info(der) == info


def test_ticket_info_agrees_with_asn1_library() -> None:
    """The part that is passed over by lengths, against the same decoded in full."""
    decoder = asn1.Decoder()
    decoder.start(REAL)
    _, value = decoder.read()
    assert value[0][3][0][:2] == [[18], [1]]
    assert ticket_info(REAL) == TicketInfo(18, 1)


@thorough
@given(mutations(REAL))
def test_ticket_info_of_garbage_is_none_or_info(der: bytes) -> None:
    info = ticket_info(der)
    assert info is None or isinstance(info, TicketInfo)


@thorough
@given(st.binary(max_size=80))
def test_ticket_info_with_garbage_in_encrypted_part(garbage: bytes) -> None:
    info = ticket_info(ticket(garbage))
    assert info is None or isinstance(info, TicketInfo)


@pytest.mark.parametrize(
    "pattern", [b"\x30\x80", b"\xa0\x80", b"\x9f", b"\x1f\xff", b"\xa3\x82\xff"]
)
def test_ticket_info_time_is_bounded(pattern: bytes) -> None:
    began = time.process_time()
    for der in (pattern * 500_000, ticket(pattern * 500_000)):
        assert ticket_info(der) is None
    assert time.process_time() - began < 1
