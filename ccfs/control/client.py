# SPDX-License-Identifier: MIT
"""Client of the control protocol: requests to ccfsd, each with a deadline.

Knows one socket and the codec; never what a request does.
"""

from __future__ import annotations

import socket
import time
from types import TracebackType

from ccfs.control.messages import MESSAGE_MAX, MalformedError, Message, decode_reply, encode
from ccfs.control.paths import CONTROL_SOCKET
from ccfs.linux.peer_credentials import peer

DEFAULT_SECONDS = 1.0
"""Deadline of a connection whose caller names none."""
CONNECT_PAUSE = 0.005
"""Seconds between two tries to connect."""


class UnreachableError(Exception):
    """No process listens, no reply came in time, or the listener can't be trusted."""


class Client:
    """A connection to ccfsd; a context manager.

    Raises UnreachableError if no process listens at `path`, or one that isn't root's: only root may
    say where a user's mount is.  `seconds` bounds the whole life of the connection.
    """

    def __init__(self, path: str = CONTROL_SOCKET, seconds: float = DEFAULT_SECONDS) -> None:
        self._deadline = time.monotonic() + seconds
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise

    def ask(self, word: str, **values: str | int) -> Message:
        """Send one request and return its reply; RefusedError, UnreachableError."""
        try:
            self._socket.settimeout(self._remaining())
            self._socket.send(encode(word, **values))
            self._socket.settimeout(self._remaining())
            data = self._socket.recv(MESSAGE_MAX + 1)
            return decode_reply(data)
        except TimeoutError:
            raise UnreachableError("no reply in time") from None
        except OSError as error:
            raise UnreachableError(f"no reply: {error.strerror or error}") from None
        except MalformedError as error:
            raise UnreachableError(f"malformed reply: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connect(self, path: str) -> None:
        try:
            self._socket.settimeout(self._remaining())
            while not self._try_connect(path):
                time.sleep(CONNECT_PAUSE)
        except OSError as error:
            raise UnreachableError(f"cannot connect to {path}: {error.strerror}") from None
        listener = peer(self._socket)
        if listener.uid != 0:
            raise UnreachableError(f"uid {listener.uid}, not root, listens at {path}")

    def _try_connect(self, path: str) -> bool:
        """Connect; False if the listener's backlog is full (unix(7): EAGAIN)."""
        try:
            self._socket.connect(path)
        except BlockingIOError:
            if time.monotonic() > self._deadline:
                raise
            return False
        return True

    def _remaining(self) -> float:
        """Return the seconds left, at least 0.001: a timeout of 0 would mean non-blocking."""
        return max(self._deadline - time.monotonic(), 0.001)


def own_mount(path: str = CONTROL_SOCKET, seconds: float = DEFAULT_SECONDS) -> str | None:
    """Ask ccfsd for the caller's mount, which it makes if there is none; return the mountpoint.

    None if no ccfsd can be reached; RefusedError with ccfsd's reason if it refuses.
    """
    try:
        with Client(path, seconds) as client:
            return client.ask("mount", deadline=int(seconds * 1000)).values.get("path")
    except UnreachableError:
        return None
