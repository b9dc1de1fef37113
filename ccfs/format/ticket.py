"""What a ticket says in clear about the key that encrypts it.

Knows the outside of a Ticket (RFC 4120 section 5.3), never its encrypted part.

    Ticket        = [APPLICATION 1] SEQUENCE {tkt-vno [0], realm [1], sname [2], enc-part [3]}
    EncryptedData = SEQUENCE {etype [0] Int32, kvno [1] UInt32 OPTIONAL, cipher [2] OCTET STRING}
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asn1 import Decoder

# The library gets this much of enc-part: what comes before the cipher.  It bounds time and memory.
_CLEAR_MAX = 64

_TICKET = 0x61
_SEQUENCE = 0x30
_TKT_VNO = bytes.fromhex("a003020105")
_REALM = 0xA1
_SNAME = 0xA2
_CONTEXT = 0x80
_INDEFINITE = 0x80


@dataclass(frozen=True, slots=True)
class TicketInfo:
    """The encryption type and key version of a ticket; `kvno` is None where it has none."""

    enctype: int
    kvno: int | None


def ticket_info(der: bytes) -> TicketInfo | None:
    """What encrypts this ticket; None when the bytes are no ticket.

    The two names before the encrypted part are passed over by their lengths, since decoding them
    takes ten times as long as the rest.
    """
    import asn1  # here, because most runs of the command show no credential

    try:
        at, end = _contents(der, 0, _TICKET)
        at, _ = _contents(der, at, _SEQUENCE)
        if end != len(der) or not der.startswith(_TKT_VNO, at):
            return None
        _, at = _contents(der, at + len(_TKT_VNO), _REALM)
        _, at = _contents(der, at, _SNAME)
        decoder = asn1.Decoder()
        decoder.start(der[at : at + _CLEAR_MAX])
        return _read_encrypted(decoder)
    except Exception:  # the library raises more than its own Error on garbage
        return None


def _contents(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the contents of the element at `at` begin and end.  It must have this tag."""
    length = der[at + 1]
    start = at + 2
    if length > 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if der[at] != tag or der[at + 1] == _INDEFINITE or start + length > len(der):
        raise ValueError("another element, or its end")
    return start, start + length


def _read_encrypted(decoder: "Decoder") -> TicketInfo:
    """The clear fields of enc-part."""
    if decoder.peek() != (3, 0x20, _CONTEXT):
        raise ValueError("no enc-part")
    decoder.enter()
    decoder.enter()
    enctype = _integer(decoder, 0)
    tag = decoder.peek()
    return TicketInfo(enctype, _integer(decoder, 1) if tag and tag.nr == 1 else None)


def _integer(decoder: "Decoder", number: int) -> int:
    """The 32-bit integer, signed or not, in the context element that comes next."""
    tag, value = decoder.read()
    if tag is None or (tag.nr, tag.cls) != (number, _CONTEXT) or not isinstance(value, list):
        raise ValueError("another element")
    (integer,) = value
    if type(integer) is not int or not -(2**31) <= integer < 2**32:
        raise ValueError("no 32-bit integer")
    return integer
