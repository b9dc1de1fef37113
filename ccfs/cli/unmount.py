# SPDX-License-Identifier: MIT
"""`ccfs unmount`: unmount, and wait until the daemon has ended.

Knows who may unmount; `end_mount` does it.
"""

from __future__ import annotations

import os
from argparse import Namespace

from ccfs.cli import end_mount, mountpoint_argument
from ccfs.errors import DeniedError, Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Unmount; return when the daemon has ended and nothing of the mount is left."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    mount = mountpoint.find(path)
    if os.geteuid() not in (0, mount.owner):
        reason = f"the ccfs at {path} belongs to uid {mount.owner}"
        raise DeniedError(reason, "only its owner and root can unmount it")
    end_mount.end(mount)
    return Exit.OK
