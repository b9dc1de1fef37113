# SPDX-License-Identifier: MIT
"""The records of CCAPI v3, with the header's field names.

Knows values, never where they are stored.  No `repr` shows the bytes of a key, a ticket or
authorization data.
"""
# ruff: noqa: N801 - these are the header's names

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class cc_data:
    """Bytes with a type: a key's enctype, an address's type, 0 for a ticket.

    `type`: unsigned 32 bits.
    """

    type: int
    data: bytes = field(repr=False)


_EMPTY = cc_data(0, b"")


@dataclass(frozen=True, slots=True)
class cc_credentials_v5_t:
    """One credential.

    `client`, `server`: quoted principals with their realm.  Times: seconds since the epoch, 0 for
    none; they, `is_skey` and `ticket_flags` are unsigned.  `addresses` and `authdata`: None and
    empty are the same.
    """

    client: str | None
    server: str | None
    keyblock: cc_data = _EMPTY
    authtime: int = 0
    starttime: int = 0
    endtime: int = 0
    renew_till: int = 0
    is_skey: int = 0
    ticket_flags: int = 0
    addresses: Sequence[cc_data] | None = ()
    ticket: cc_data = _EMPTY
    second_ticket: cc_data = _EMPTY
    authdata: Sequence[cc_data] | None = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", tuple(self.addresses or ()))
        object.__setattr__(self, "authdata", tuple(self.authdata or ()))


@dataclass(frozen=True, slots=True)
class cc_credentials_union:
    """A credential and its version: `cc_credentials_v5` is the only one."""

    version: int
    credentials_v5: cc_credentials_v5_t | None
