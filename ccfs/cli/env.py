"""`ccfs env`: the line that points a shell's Kerberos programs at the mount.

Knows whether a mount answers and lets one in; never what is in it.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ccfs.cli import mountpoint_argument
from ccfs.errors import Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Print the export line, quoted for a shell; UserError when no mount lets the caller in."""
    path = (arguments.mountpoint is None and mountpoint_argument.asked()) or mountpoint_argument.of(
        arguments.mountpoint
    )
    mountpoint.ask(path, Path(path, "info").read_bytes)
    print(mountpoint_argument.export_line(path))
    return Exit.OK
