"""One question to a daemon, and its answer, without waiting for it.

Knows a socket's path, a packet out and one back, and descriptors with either; never what they say.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence

from ccfs.ccfsd.loop import Loop, Timer
from ccfs.control import messages
from ccfs.control.messages import Message

AGAIN = 0.05
"""Seconds until the next try where there is no place in the queue, or no descriptor left."""
_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What ccfsd itself is out of: no fault of the daemon's, whose time hasn't begun."""

LATE = "no answer in time"
_MOST = 2
"""Descriptors that come with an answer."""

Answer = Callable[[Message | None, str], None]
"""Called once, with the reply, or None and what came instead."""


class Question:
    """Asks when it is made; calls `answer` within `seconds`, unless it is dropped.

    `refused`: whether the daemon has said no.  `passed`: descriptors that go with it; `answer` may
    `take` those that come back.
    """

    def __init__(
        self,
        loop: Loop,
        path: str,
        data: bytes,
        answer: Answer,
        seconds: float,
        passed: Sequence[int] = (),
    ) -> None:
        self._loop, self._path, self._data, self._passed = loop, path, data, passed
        self._answer: Answer | None = answer
        self._received: list[int] = []
        self._socket: socket.socket | None = None
        self._again: Timer | None = None
        self.refused = False
        self._seconds = seconds
        self._limit = self._wait()
        self._connect()

    def drop(self) -> None:
        """The answer is of no use any more."""
        self._answer = None
        self._close()

    def take(self) -> list[int]:
        """The descriptors that came with the answer; those that aren't taken are closed."""
        received, self._received = self._received, []
        return received

    def _wait(self) -> Timer:
        return self._loop.after(self._seconds, lambda: self._end(None, LATE))

    def _connect(self) -> None:
        try:
            self._send()
        except OSError as error:
            self._forget_socket()
            if error.errno in _LACKING:
                self._limit.cancel()
                self._limit = self._wait()
            elif not isinstance(error, BlockingIOError):
                # Not from here: whoever asks may still be busy with asking.
                why = (error.strerror or str(error)).lower()
                self._again = self._loop.after(0, lambda: self._end(None, why))
                return
            self._again = self._loop.after(AGAIN, self._connect)

    def _send(self) -> None:
        self._socket = connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        connection.connect(self._path)
        socket.send_fds(connection, [self._data], list(self._passed))
        self._loop.watch(connection.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._socket is not None
        try:
            data, self._received, _, _ = socket.recv_fds(
                self._socket, messages.MESSAGE_MAX + 1, _MOST, socket.MSG_CMSG_CLOEXEC
            )
            reply = messages.decode_reply(data)
        except BlockingIOError:
            return
        except messages.RefusedError as error:
            self.refused = True
            self._end(None, str(error))
        except (OSError, messages.MalformedError):
            self._end(None, "no answer")
        else:
            self._end(reply, "")

    def _end(self, reply: Message | None, why: str) -> None:
        answer, self._answer = self._answer, None
        self._close()
        try:
            if answer is not None:
                answer(reply, why)
        finally:
            for one in self.take():
                os.close(one)

    def _close(self) -> None:
        self._limit.cancel()
        if self._again is not None:
            self._again.cancel()
        self._forget_socket()

    def _forget_socket(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
