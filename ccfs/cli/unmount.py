"""`ccfs unmount`: take a mount away and see its processes end.

Knows whose mount it is; `ending` knows how a mount is ended.
"""

from __future__ import annotations

import os
from argparse import Namespace

from ccfs.cli import end_mount, mountpoint_argument
from ccfs.errors import DeniedError, Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Unmount; returns when the daemon has ended and nothing of the mount is left."""
    path = mountpoint_argument.of(arguments.mountpoint)
    mount = mountpoint.find(path)
    if os.geteuid() not in (0, mount.owner):
        said = f"the ccfs at {path} belongs to uid {mount.owner}"
        raise DeniedError(said, "only its owner and root can")
    end_mount.end(mount)
    return Exit.OK
