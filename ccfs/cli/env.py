# SPDX-License-Identifier: MIT
"""`ccfs env`: the line that points a shell's Kerberos programs at the mount.

Knows whether a mount answers the caller; never what is in it.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ccfs.cli import mountpoint_argument
from ccfs.errors import Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Print the export line, quoted for a shell; UserError if no mount answers the caller."""
    path = None
    if arguments.mountpoint is None:
        path = mountpoint_argument.mount_by_ccfsd()
    path = path or mountpoint_argument.resolve(arguments.mountpoint)
    mountpoint.call(path, Path(path, "info").read_bytes)
    print(mountpoint_argument.export_line(path))
    return Exit.OK
