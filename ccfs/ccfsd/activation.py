"""Sockets: those that a service manager has opened for us, or our own.

Knows the environment of socket activation (sd_listen_fds(3)) and paths; never what clients say.
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
    """The sockets that were opened for us: `control` and `kcm`, by name, else by type.

    The variables are taken out of the environment.
    """
    given = {name: environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")}
    if given["PID"] != str(pid) or not given["FDS"].isdigit():
        return {}
    names = given["FDNAMES"].split(":")
    found: dict[str, socket.socket] = {}
    for index in range(int(given["FDS"])):
        opened = socket.socket(fileno=FIRST + index)
        opened.set_inheritable(False)
        name = names[index] if index < len(names) else ""
        found[name if name in ("control", "kcm") else _by_type(opened)] = opened
    return found


def control(path: str) -> socket.socket:
    """Where clients ask; whoever listened there before has ended, since we have the lock."""
    try:
        return _listen(path, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise RuntimeDirectoryError(f"cannot listen at {path}: {error.strerror}") from None


def kcm(path: str) -> socket.socket | None:
    """Where KCM clients connect; None where another server does that already, or it can't be."""
    if listener_pid(path) is not None:
        log.warning("another KCM server listens at %s: not listening there", path)
        return None
    try:
        return _listen(path, socket.SOCK_STREAM)
    except OSError as error:
        log.warning("cannot listen at %s: %s", path, error.strerror)
        return None


def _by_type(opened: socket.socket) -> str:
    return "control" if opened.type == socket.SOCK_SEQPACKET else "kcm"


def _listen(path: str, kind: socket.SocketKind) -> socket.socket:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 - everybody may ask, the kernel says who it is
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
