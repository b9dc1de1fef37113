# SPDX-License-Identifier: MIT
"""One request to a daemon, and its reply.

Knows a socket's path, one packet each way, and descriptors with either; never what they say.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

import trio

from ccfs.control import messages
from ccfs.control.messages import Message, RefusedError
from ccfs.linux import descriptors

RETRY = 0.05
"""Seconds until the next try where the daemon's backlog is full, or no descriptor is left."""
_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What ccfsd itself is out of: the daemon has not been asked yet, so its time has not begun."""
_DESCRIPTORS = 2
"""Descriptors that a reply may carry."""


class NoReplyError(Exception):
    """The daemon has ended, or its reply can't be understood."""


class LateError(NoReplyError):
    """The daemon has not replied in time."""


FAILURES = (NoReplyError, RefusedError)
"""What `ask` raises.  RefusedError: the daemon has said no."""


async def ask(path: str, data: bytes, seconds: float, passed: Sequence[int] = ()) -> Message:
    """Send a request, with descriptors `passed`; returns the reply.  Raises FAILURES."""
    reply, received = await ask_for_descriptors(path, data, seconds, passed)
    for descriptor in received:
        os.close(descriptor)
    return reply


async def ask_for_descriptors(
    path: str, data: bytes, seconds: float, passed: Sequence[int] = ()
) -> tuple[Message, list[int]]:
    """As `ask`; returns the descriptors of the reply, too, which the caller closes."""
    with trio.move_on_after(seconds) as limit:
        with await _send(path, data, passed, limit, seconds) as connection:
            return await _receive(connection)
    raise LateError("no answer in time")


async def _send(
    path: str, data: bytes, passed: Sequence[int], limit: trio.CancelScope, seconds: float
) -> socket.socket:
    """Connect and send; tried again while that only lacks a place or a descriptor."""
    while True:
        try:
            return _send_now(path, data, passed)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _LACKING:
                raise NoReplyError((error.strerror or str(error)).lower()) from None
            limit.deadline = trio.current_time() + seconds
        await trio.sleep(RETRY)


def _send_now(path: str, data: bytes, passed: Sequence[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(path)
        socket.send_fds(connection, [data], list(passed))
    except BaseException:
        connection.close()
        raise
    return connection


async def _receive(connection: socket.socket) -> tuple[Message, list[int]]:
    while True:
        await trio.lowlevel.wait_readable(connection)
        try:
            data, received = descriptors.receive(connection, messages.MESSAGE_MAX + 1, _DESCRIPTORS)
        except BlockingIOError:
            continue
        except OSError:
            raise NoReplyError("no answer") from None
        try:
            return messages.decode_reply(data), received
        except (RefusedError, messages.MalformedError) as error:
            for descriptor in received:
                os.close(descriptor)
            if isinstance(error, RefusedError):
                raise
            raise NoReplyError("no answer") from None
