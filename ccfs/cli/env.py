"""`ccfs env`: the line that points a shell's Kerberos programs at the mount.

Knows whether a mount answers; never what is in it.
"""

from __future__ import annotations

from argparse import Namespace

from ccfs import mountpoint
from ccfs.cli import place
from ccfs.errors import Exit


def run(arguments: Namespace) -> int:
    """Print the export line, quoted for a shell; UserError when no mount answers there."""
    path = place.of(arguments.mountpoint)
    state = mountpoint.look(mountpoint.find(path))
    if state is mountpoint.State.DEAD:
        raise mountpoint.dead(path)
    if state is mountpoint.State.HANGING:
        raise mountpoint.no_answer(path)
    print(place.export_line(path))
    return Exit.OK
