# SPDX-License-Identifier: MIT
"""Which process listens at a socket in the file system (unix(7)).

Knows stream sockets and SO_PEERCRED; never what is sent over one.
"""

from __future__ import annotations

import socket

from ccfs.linux.peer_credentials import peer


def listener_pid(path: str) -> int | None:
    """Return the pid of the process that listens at a stream socket; None if no process does.

    0 if the pid is unknown: the listener's backlog is full, so that connect(2) fails with EAGAIN
    before SO_PEERCRED can be read, or the process is in another pid namespace.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        return peer(client).pid
