"""What a ticket says in clear about the key that encrypts it.

Knows the outside of a Ticket (RFC 4120 section 5.3), never its encrypted part.

    Ticket        = [APPLICATION 1] SEQUENCE {tkt-vno [0], realm [1], sname [2], enc-part [3]}
    EncryptedData = SEQUENCE {etype [0] Int32, kvno [1] UInt32 OPTIONAL, cipher [2] OCTET STRING}
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asn1 import Decoder

# What comes before the cipher is a few names.  Reading no further bounds time and memory.
_CLEAR_MAX = 4096
_TICKET_VERSION = 5


@dataclass(frozen=True, slots=True)
class TicketInfo:
    """The encryption type and key version of a ticket; `kvno` is None where it has none."""

    enctype: int
    kvno: int | None


def ticket_info(der: bytes) -> TicketInfo | None:
    """What encrypts this ticket; None when the bytes are no ticket."""
    import asn1  # here, because most runs of the command show no credential

    decoder = asn1.Decoder()
    decoder.start(bytes(der[:_CLEAR_MAX]))
    try:
        return _read_ticket(decoder)
    except Exception:  # the library raises more than its own Error on garbage
        return None


def _read_ticket(decoder: "Decoder") -> TicketInfo | None:
    from asn1 import Classes

    for number, of_class in ((1, Classes.Application), (16, Classes.Universal)):
        _enter(decoder, number, of_class)
    if _read(decoder, 0) != [_TICKET_VERSION]:
        return None
    for number in (1, 2):
        _read(decoder, number)
    for number, of_class in ((3, Classes.Context), (16, Classes.Universal)):
        _enter(decoder, number, of_class)
    enctype = _integer(_read(decoder, 0))
    tag = decoder.peek()
    if tag is None or tag.nr != 1:
        return TicketInfo(enctype, None)
    return TicketInfo(enctype, _integer(_read(decoder, 1)))


def _enter(decoder: "Decoder", number: int, of_class: int) -> None:
    """Go into the constructed element that comes next, which must be this one."""
    tag = decoder.peek()
    if tag is None or (tag.nr, tag.cls) != (number, of_class):
        raise ValueError("another element")
    decoder.enter()


def _read(decoder: "Decoder", number: int) -> object:
    """What is in the context element that comes next, which must have this number."""
    tag, value = decoder.read()
    if tag is None or (tag.nr, tag.cls) != (number, 0x80):
        raise ValueError("another element")
    return value


def _integer(value: object) -> int:
    """The one 32-bit integer in an element, signed or not."""
    if isinstance(value, list) and len(value) == 1:
        number = value[0]
        if type(number) is int and -(2**31) <= number < 2**32:
            return number
    raise ValueError("no 32-bit integer")
