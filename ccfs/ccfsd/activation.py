# SPDX-License-Identifier: MIT
"""The sockets where clients connect: inherited from a service manager, or bound here.

Knows the environment of socket activation (sd_listen_fds(3)) and paths; never what clients send.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import MutableMapping
from contextlib import suppress

from ccfs.ccfsd.runtime_dir import RuntimeDirectoryError
from ccfs.linux.socket_listener import listener_pid

log = logging.getLogger(__name__)

FIRST = 3
BACKLOG = 4096


def inherited(environment: MutableMapping[str, str], pid: int) -> dict[str, socket.socket]:
    """Return the inherited sockets: `control` and `kcm`, by name, else by type.

    The variables are taken out of the environment.
    """
    variables = {name: environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")}
    if variables["PID"] != str(pid) or not variables["FDS"].isdigit():
        return {}
    names = variables["FDNAMES"].split(":")
    sockets: dict[str, socket.socket] = {}
    for index in range(int(variables["FDS"])):
        inherited_socket = socket.socket(fileno=FIRST + index)
        inherited_socket.set_inheritable(False)
        name = names[index] if index < len(names) else ""
        kind = name if name in ("control", "kcm") else _by_type(inherited_socket)
        sockets[kind] = inherited_socket
    return sockets


def control(path: str) -> socket.socket:
    """Bind the control socket, in place of one whose ccfsd has ended: this one has the lock."""
    try:
        return _listen(path, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise RuntimeDirectoryError(f"cannot listen at {path}: {error.strerror}") from None


def kcm(path: str) -> socket.socket | None:
    """Bind the KCM socket; None where another server listens there, or that fails."""
    if listener_pid(path) is not None:
        log.warning("another KCM server listens at %s: not listening there", path)
        return None
    try:
        return _listen(path, socket.SOCK_STREAM)
    except OSError as error:
        log.warning("cannot listen at %s: %s", path, error.strerror)
        return None


def _by_type(listener: socket.socket) -> str:
    return "control" if listener.type == socket.SOCK_SEQPACKET else "kcm"


def _listen(path: str, kind: socket.SocketKind) -> socket.socket:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 - any uid may connect: the kernel tells it
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
