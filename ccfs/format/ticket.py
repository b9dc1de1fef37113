# SPDX-License-Identifier: MIT
"""Encryption type and key version of a ticket, which are in clear.

Knows the outer fields of a Ticket (RFC 4120 section 5.3), never its encrypted part.

    Ticket        = [APPLICATION 1] SEQUENCE {tkt-vno [0], realm [1], sname [2], enc-part [3]}
    EncryptedData = SEQUENCE {etype [0] Int32, kvno [1] UInt32 OPTIONAL, cipher [2] OCTET STRING}

By hand: seven element heads and two integers are read, and the names between them are skipped by
their lengths.  An ASN.1 library decodes the names, too, which takes ten times as long.
"""

from dataclasses import dataclass

_TICKET = 0x61
_SEQUENCE = 0x30
_INTEGER = 0x02
_TKT_VNO = bytes.fromhex("a003020105")
_REALM = 0xA1
_SNAME = 0xA2
_ENC_PART = 0xA3
_ETYPE = 0xA0
_KVNO = 0xA1
_INDEFINITE = 0x80
"""The length octet of BER's indefinite form, which DER forbids."""


@dataclass(frozen=True, slots=True)
class TicketInfo:
    """The encryption type and key version of a ticket; `kvno` is None if it has none."""

    enctype: int
    kvno: int | None


def ticket_info(der: bytes) -> TicketInfo | None:
    """Return what encrypts a ticket; None if the bytes are no ticket."""
    try:
        at, end = _element(der, 0, _TICKET)
        at, _ = _element(der, at, _SEQUENCE)
        if end != len(der) or not der.startswith(_TKT_VNO, at):
            return None
        _, at = _element(der, at + len(_TKT_VNO), _REALM)
        _, at = _element(der, at, _SNAME)
        at, _ = _element(der, at, _ENC_PART)
        at, end = _element(der, at, _SEQUENCE)
        enctype, at = _integer(der, at, _ETYPE)
        has_kvno = at < end and der[at] == _KVNO
        return TicketInfo(enctype, _integer(der, at, _KVNO)[0] if has_kvno else None)
    except (IndexError, ValueError):
        return None


def _element(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return start and end of the contents of the element at `at`; ValueError for another tag.

    IndexError or ValueError if the bytes end before the element does.
    """
    length = der[at + 1]
    start = at + 2
    if length > 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if der[at] != tag or der[at + 1] == _INDEFINITE or start + length > len(der):
        raise ValueError("another element, or one that is cut")
    return start, start + length


def _integer(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return the 32-bit integer in the element at `at`, signed or not, and the offset after it."""
    start, end = _element(der, at, tag)
    start, integer_end = _element(der, start, _INTEGER)
    value = int.from_bytes(der[start:end], "big", signed=True)
    if integer_end != end or start == end or not -(2**31) <= value < 2**32:
        raise ValueError("no 32-bit integer")
    return value, end
