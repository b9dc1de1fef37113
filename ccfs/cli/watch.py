"""`ccfs watch`: the events of a mount, the last ones first and then each as it comes.

Knows that `events` is a log of lines of fields (with tabs between them) that grows and wakes poll;
never what a line says.
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

from ccfs.cli import mountpoint_argument, output
from ccfs.errors import Exit
from ccfs.mounting import mountpoint

_GONE = (
    errno.ENOENT,  # unmounted between the first look and the next: the bare mountpoint is there
    errno.ENOTCONN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENODEV,
    errno.ESTALE,
)
_PAUSE = 0.2


def run(arguments: Namespace) -> int:
    """Print events until Ctrl-C or until the mount goes away; both are a good end."""
    path = mountpoint_argument.of(arguments.mountpoint)
    events = Path(path, "events")
    past = mountpoint.ask(path, events.read_bytes)
    try:
        _show(past.split(b"\n")[:-1][-arguments.lines :])
        _follow(events, len(past))
    except KeyboardInterrupt:
        return Exit.OK
    output.say("notice", f"the ccfs at {path} is gone")
    return Exit.OK


def _follow(events: Path, offset: int) -> None:
    """Print the lines that come behind `offset`; returns when the mount is gone."""
    tail = b""
    try:
        for chunk in _chunks(events, offset):
            *whole, tail = (tail + chunk).split(b"\n")
            _show(whole)
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _chunks(events: Path, offset: int) -> Iterator[bytes]:
    """What is in `events` behind `offset` and what gets there, as it comes."""
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
    """Wait until there may be more to read; False when the mount is gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        time.sleep(_PAUSE)  # nothing to read and yet awake: never spin, whatever the daemon does
    happened = poll.poll()[0][1]
    return not happened & (select.POLLERR | select.POLLHUP | select.POLLNVAL)


def _show(lines: list[bytes]) -> None:
    for line in lines:
        fields = line.decode(errors="surrogateescape").split("\t")
        print(*map(output.printable, fields), sep="\t")
    sys.stdout.flush()
