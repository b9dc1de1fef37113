# SPDX-License-Identifier: MIT
"""Call a function in a child process, with a bound on time, whatever a file system does.

A process that waits for a FUSE daemon which has read its request and doesn't reply can't even be
killed.  So a child waits: the caller goes on, and the child ends when the daemon does.

Knows processes and a pipe; never what the function does.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from ccfs.errors import redaction
from ccfs.linux import descriptors

_DONE = b"+"
_FAILED = b"!"
_BROKEN = b"?"


def call(work: Callable[[], bytes], seconds: float) -> bytes:
    """Return what `work()` returns, called in a child process.

    Raises TimeoutError after `seconds`, and the OSError (with its errno) that `work` raised.  The
    calling process must have one thread only: it forks.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run(work, writer)
    os.close(writer)
    try:
        reply = _collect(reader, time.monotonic() + seconds)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, os.WNOHANG)
        raise
    finally:
        os.close(reader)
    os.waitpid(child, 0)
    return _unpack(reply)


def _run(work: Callable[[], bytes], writer: int) -> None:
    """Be the child: write one reply and exit."""
    try:
        _close_all_but(writer)
        _write_all(writer, _reply(work))
    finally:
        os._exit(0)


def _reply(work: Callable[[], bytes]) -> bytes:
    try:
        return _DONE + work()
    except OSError as error:
        return _FAILED + b"%d" % (error.errno or 0)
    except Exception as error:
        return _BROKEN + redaction.describe(error).encode()


def _close_all_but(kept: int) -> None:
    """Close inherited descriptors: another process may wait for that, and this child may hang."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    descriptors.close_all_but({kept})


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _collect(reader: int, deadline: float) -> bytes:
    """Read until the child closes its end; TimeoutError at `deadline` (time.monotonic)."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(reader, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _unpack(reply: bytes) -> bytes:
    kind, data = reply[:1], reply[1:]
    if kind == _DONE:
        return data
    if kind == _FAILED:
        number = int(data)
        raise OSError(number, os.strerror(number))
    raise redaction.ChildError(data.decode(errors="replace") or "no reply before the child ended")
