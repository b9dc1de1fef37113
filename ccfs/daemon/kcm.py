"""The KCM side of a mount: where clients connect, and how many may.

Knows the socket's path, and who else may be there; never what a client asks.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs import control
from ccfs.errors import KcmSocketError

if TYPE_CHECKING:
    import trio

    from ccfs.daemon.loop import Loop
    from ccfs.daemon.options import MountOptions
    from ccfs.ops.server import Server

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 1024
OWN_DESCRIPTORS = 64
"""What a daemon has open besides connections, and more."""
BACKLOG = 1024
LONGEST_PATH = 107
"""Bytes that a Unix socket's address has room for (unix(7))."""


class KcmFace:
    """KCM over the store of one mount."""

    def __init__(self, server: Server, path: str = "") -> None:
        """Listen at `path`, unless that is "".  Raises KcmSocketError."""
        from ccfs.kcm.server import KcmServer
        from ccfs.kcm.service import Service

        limits, owner = server.store.limits, server.owner
        self._path = path
        self._listener = _listen(path) if path else None
        self._file = _identity(path)
        self._kcm = KcmServer(
            Service(server, owner.uid, root=owner.root),
            limit=limits.ccache_bytes + limits.ccache_bytes // 4,
            room=limits.total_bytes,
            most=_most_connections(),
        )

    @classmethod
    def of(cls, options: MountOptions, server: Server) -> KcmFace | None:
        """The one that the options ask for: a socket, or somebody who hands connections over.

        A mount that lived with another server at the socket since is not given up for that.
        """
        if not options.kcm_socket and options.control < 0:
            return None
        try:
            return cls(server, options.kcm_socket)
        except KcmSocketError as error:
            if not options.again:
                raise
            log.warning("no KCM at this mount any more: %s", error.reason)
            return None if options.control < 0 else cls(server)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._kcm.connections

    async def run(self, loop: Loop | None, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled, by the loop where it does that."""
        attended = bool(loop and loop.answer(self._kcm.fileno(), self._kcm.answer_all))
        await self._kcm.run(self._listener, attended=attended, task_status=task_status)

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a client that is connected already; only while `run` runs."""
        self._kcm.serve_connection(client)

    def close(self) -> None:
        """Stop listening; the socket goes, unless another is in its place."""
        if self._listener is None:
            return
        self._listener.close()
        if self._file is not None and _identity(self._path) == self._file:
            with suppress(OSError):
                os.unlink(self._path)


def _listen(path: str) -> socket.socket:
    """A socket at `path`, in place of one that nobody listens at any more."""
    _check(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise KcmSocketError(f"cannot listen at {path}: {error.strerror}") from None
    except KcmSocketError:
        listener.close()
        raise
    return listener


def _check(path: str) -> None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise KcmSocketError(
            f"{path} is too long for a socket", f"{LONGEST_PATH} bytes are the most"
        )
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise KcmSocketError(f"there is no directory {directory}", "make it, or name another path")


def _clear(path: str) -> None:
    """Take away a socket of ours that nobody listens at."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise KcmSocketError(f"{path} is no socket", "name another path")
    pid = control.listener(path)
    if pid is not None:
        raise KcmSocketError(
            f"process {pid} serves at {path}", "end that one, or name another path"
        )
    if status.st_uid != os.geteuid():
        raise KcmSocketError(f"the socket {path} is another user's", "name another path")
    os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    """Which file is at a path."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _most_connections() -> int:
    """How many connections there are descriptors for, once we have what we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    enough = soft == resource.RLIM_INFINITY or soft >= wanted
    return MOST_CONNECTIONS if enough else max(1, soft - OWN_DESCRIPTORS)
