"""Where the KCM clients of one mount connect: a socket at a path, for as long as the mount lives.

Knows the path, and who else may be there; never who serves at it, nor what clients ask.

Who makes it holds it while one daemon after another serves at it.  There is always somebody to
connect to: libkrb5 connects again when a daemon has died, and where that fails it goes on with the
number of a descriptor that it has closed, which may be another one's by then.
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
"""Bytes that a Unix socket's address has room for (unix(7))."""


class KcmListener:
    """A socket that listens at `path`, in place of one that nobody listens at any more.

    `file`: the device and inode of what it has there.  Raises KcmSocketError.  Processes that are
    forked have it too, a program that is run has not.
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
        """One that listens already, by its descriptor; `file`: what there was at its path."""
        made = cls.__new__(cls)
        made.path, made.file = path, file
        made.listener = socket.socket(fileno=descriptor)
        return made

    def inherited(self, descriptor: int) -> KcmListener:
        """The same in a process that has been given it by this descriptor."""
        return KcmListener.adopted(self.path, descriptor, self.file)

    def remove(self) -> None:
        """Take it off the path, unless another is in its place.

        As long as somebody has it open no other file has its number.
        """
        if self.file is not None and _identity(self.path) == self.file:
            with suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        """Let go of it; who waits to be served is turned away when all have."""
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
    """Take away a socket of ours that nobody listens at."""
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
    """Which file is at a path."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
