# SPDX-License-Identifier: MIT
"""`ccfs wait`: wait for a change of one ccache, or of any.  Knows the FIFO `changed`."""

from __future__ import annotations

import os
import select
from argparse import Namespace

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import directory_of, open_file
from ccfs.errors import Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Return at the next change of the ccache, or of any; UserError if the mount dies first."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    directory = path if arguments.name is None else directory_of(path, arguments.name)
    file = os.path.join(directory, "changed")
    with open_file(path, arguments.name, file, os.O_NONBLOCK) as fifo:
        poll = select.poll()
        poll.register(fifo, 0)  # POLLHUP alone, which comes when the writer closes the FIFO
        poll.poll()
    mountpoint.call(path, lambda: b"")
    return Exit.OK
