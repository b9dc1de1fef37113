# SPDX-License-Identifier: MIT
"""`ccfs watch`: print the last events of a mount, then each new one.

Knows that `events` is a file of tab-separated lines that grows and that poll(2) reports; never what
an event means.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from ccfs.cli import mountpoint_argument
from ccfs.commandline import messages
from ccfs.errors import Exit
from ccfs.mounting import mountpoint

_UNMOUNTED = (
    errno.ENOENT,  # unmounted between two opens: the directory below has no such file
    errno.ENOTCONN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENODEV,
    errno.ESTALE,
)
_PAUSE = 0.2


def run(arguments: Namespace) -> int:
    """Print events until Ctrl-C or until the mount ends; both end with status 0."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    events = Path(path, "events")
    past = mountpoint.call(path, events.read_bytes)
    try:
        _print_lines(past.split(b"\n")[:-1][-arguments.lines :])
        _follow(events, len(past))
    except KeyboardInterrupt:
        return Exit.OK
    messages.say("notice", f"the ccfs at {path} is gone")
    return Exit.OK


def _follow(events: Path, offset: int) -> None:
    """Print the lines after `offset` as they are written; return when the mount has ended."""
    incomplete = b""
    try:
        for chunk in _chunks(events, offset):
            *lines, incomplete = (incomplete + chunk).split(b"\n")
            _print_lines(lines)
    except OSError as error:
        if error.errno not in _UNMOUNTED:
            raise


def _chunks(events: Path, offset: int) -> Iterator[bytes]:
    """Yield the bytes of `events` after `offset` as they are written."""
    descriptor = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        while True:
            data = os.read(descriptor, 65536)
            if data:
                yield data
            elif not _wait(descriptor):
                return
    finally:
        os.close(descriptor)


def _wait(descriptor: int) -> bool:
    """Wait until the file may have grown; False if the mount has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        time.sleep(_PAUSE)  # readable at its end: don't spin, whatever the daemon does
    events = poll.poll()[0][1]
    return not events & (select.POLLERR | select.POLLHUP | select.POLLNVAL)


def _print_lines(lines: list[bytes]) -> None:
    for line in lines:
        fields = line.decode(errors="surrogateescape").split("\t")
        print(*map(messages.printable, fields), sep="\t")
    sys.stdout.flush()
