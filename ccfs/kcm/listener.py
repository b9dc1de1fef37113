# SPDX-License-Identifier: MIT
"""The listening socket of the KCM clients of one mount, at a path, as long as the mount lives.

The supervisor makes it and keeps it open while one daemon after another serves.  So connect(2)
always succeeds: libkrb5 connects again when a daemon has died, and where that fails it continues
with the number of a descriptor that it has closed, which another file may have by then.

Knows the path, and what else may be there; never which process serves, nor what clients ask.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from ccfs.errors import KcmSocketError
from ccfs.linux.socket_listener import listener_pid

BACKLOG = 1024
LONGEST_PATH = 107
"""Bytes of the longest path in a Unix socket's address (unix(7))."""


class KcmListener:
    """A socket that listens at `path`, in place of an old one without a listening process.

    `file`: device and inode of the socket at the path.  Raises KcmSocketError.  Inherited over
    fork(2), closed on execve(2).
    """

    def __init__(self, path: str) -> None:
        _check(path)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear(path)
            self.listener.bind(path)
            self.file = _identity(path)
            self.listener.listen(BACKLOG)
        except OSError as error:
            self.listener.close()
            raise KcmSocketError(f"cannot listen at {path}: {error.strerror}") from None
        except KcmSocketError:
            self.listener.close()
            raise

    @classmethod
    def adopted(cls, path: str, descriptor: int, file: tuple[int, int] | None) -> KcmListener:
        """Wrap a listening descriptor; `file`: device and inode of the socket at its path."""
        listener = cls.__new__(cls)
        listener.path, listener.file = path, file
        listener.listener = socket.socket(fileno=descriptor)
        return listener

    def inherited(self, descriptor: int) -> KcmListener:
        """Return the same in a process that has inherited it as this descriptor."""
        return KcmListener.adopted(self.path, descriptor, self.file)

    def remove(self) -> None:
        """Unlink the path, unless another file is there.

        While the socket is open no other file has its inode number.
        """
        if self.file is not None and _identity(self.path) == self.file:
            with suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        """Close it; waiting clients are refused when all processes have closed it."""
        self.listener.close()


def _check(path: str) -> None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise KcmSocketError(
            f"{path} is too long for a socket", f"{LONGEST_PATH} bytes are the most"
        )
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise KcmSocketError(f"there is no directory {directory}", "make it, or name another path")


def _clear(path: str) -> None:
    """Unlink a socket of this user without a listening process."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise KcmSocketError(f"{path} is no socket", "name another path")
    pid = listener_pid(path)
    if pid is not None:
        raise KcmSocketError(
            f"process {pid} serves at {path}", "end that one, or name another path"
        )
    if status.st_uid != os.geteuid():
        raise KcmSocketError(f"the socket {path} is another user's", "name another path")
    os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file at a path; None for none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
