# SPDX-License-Identifier: MIT
"""Ccaches of tickets that ended long ago, or end long after any test."""

from ccfs.format.ccache import Ccache, Header, encode_ccache
from ccfs.format.credential import Credential, Keyblock, Times
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import Principal

PAST, FUTURE = 946684800, 4102444800


def principal(*components: str) -> Principal:
    return Principal(1, b"EXAMPLE.COM", tuple(part.encode() for part in components))


def ccache(user: str, *ends: int) -> bytes:
    """A ccache of `user` with a TGT for each time at which one ends."""
    client = principal(user)
    credentials = tuple(
        Credential(
            client=client,
            server=principal("krbtgt", "EXAMPLE.COM"),
            keyblock=Keyblock(18, bytes(32)),
            times=Times(end - 3600, end - 3600, end, 0),
            is_skey=0,
            ticket_flags=0,
            addresses=(),
            authdata=(),
            ticket=b"\x00" * 40,
            second_ticket=b"",
        )
        for end in ends
    )
    return encode_ccache(Ccache(Header(DIALECT_V4), client, credentials))
