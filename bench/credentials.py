# SPDX-License-Identifier: MIT
"""Made-up ccaches of the size that real ones have.

This file knows bytes, never servers.  A credential has a ticket that decodes (RFC 4120, section
5.3) and, for a host of eight letters, 605 bytes: what an MIT KDC gives for a service whose ticket
holds no authorization data.
"""

import functools
import hashlib
import struct

REALM = b"KRBTEST.COM"
CLIENT = b"alice"
HEADER = b"\x05\x04\x00\x00"
NT_PRINCIPAL, NT_SRV_HST = 1, 3
AES256 = 18
CIPHER_BYTES = 372
TIMES = (1, 1, 0x7FFFFFFF, 0x7FFFFFFF)
FLAGS = 0x40A10000
"""forwardable, renewable, pre-authent, enc-pa-rep as the FILE format has them."""


@functools.lru_cache(maxsize=64)
def ccache(count: int) -> bytes:
    """A whole ccache of CLIENT in FILE format, version 4, with so many credentials."""
    records = (credential(server(number)) for number in range(count))
    return HEADER + principal(NT_PRINCIPAL, CLIENT) + b"".join(records)


def server(number: int) -> tuple[bytes, bytes]:
    """The components of the service principal with this number (up to six digits)."""
    return b"host", b"ws%06d" % number


def credential(components: tuple[bytes, ...]) -> bytes:
    """CLIENT's credential for a service, as it stands in a ccache."""
    key = hashlib.sha256(b"/".join(components)).digest()
    return b"".join(
        (
            principal(NT_PRINCIPAL, CLIENT),
            principal(NT_SRV_HST, *components),
            struct.pack(">H", AES256) + counted(key),
            struct.pack(">IIII", *TIMES),
            struct.pack(">BI", 0, FLAGS),
            struct.pack(">II", 0, 0),
            counted(ticket(components, key)),
            counted(b""),
        )
    )


def principal(kind: int, *components: bytes, realm: bytes = REALM) -> bytes:
    """A principal as the FILE and the KCM formats have it."""
    names = b"".join(map(counted, (realm, *components)))
    return struct.pack(">II", kind, len(components)) + names


def counted(contents: bytes) -> bytes:
    """Bytes behind their length."""
    return struct.pack(">I", len(contents)) + contents


def ticket(components: tuple[bytes, ...], key: bytes) -> bytes:
    """The DER of a Ticket for a service; what is encrypted in it follows from `key`."""
    cipher = hashlib.shake_128(key).digest(CIPHER_BYTES)
    strings = b"".join(der(0x1B, component) for component in components)
    name = der(0x30, der(0xA0, integer(NT_SRV_HST)) + der(0xA1, der(0x30, strings)))
    encrypted = der(0xA0, integer(AES256)) + der(0xA1, integer(1)) + der(0xA2, der(0x04, cipher))
    fields = der(0xA0, integer(5)) + der(0xA1, der(0x1B, REALM)) + der(0xA2, name)
    return der(0x61, der(0x30, fields + der(0xA3, der(0x30, encrypted))))


def integer(value: int) -> bytes:
    """A DER INTEGER below 128."""
    return der(0x02, bytes([value]))


def der(tag: int, contents: bytes) -> bytes:
    """One DER value."""
    length = len(contents)
    if length < 0x80:
        return bytes([tag, length]) + contents
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + contents
