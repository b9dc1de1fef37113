# SPDX-License-Identifier: MIT
"""The process at the other end of a socket (unix(7), SO_PEERCRED): the one decoder of it."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid.  The last two have no sign: there are users above 2^31."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a socket, as it was when it listened or connected.

    `uid` and `gid` are the effective ones.
    """

    pid: int
    uid: int
    gid: int


def peer(connection: socket.socket) -> Peer:
    """Return the process at the other end, as the kernel has it.  Raises OSError."""
    value = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(value))
