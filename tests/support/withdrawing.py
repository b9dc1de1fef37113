# SPDX-License-Identifier: MIT
"""A daemon whose clients can die between its look for a request and its read.

Knows the loop from the inside.  Run as `python -m tests.support.withdrawing MOUNTPOINT`: it says
`ready`, then `w` whenever it waits for a request and `s` when it sees one; it goes on to read that
when it gets a byte, and says nothing more when there is no other byte to come.
"""

import os
import sys

from ccfs import daemon
from ccfs.daemon import fuse_loop
from ccfs.mounting import mount_directory
from ccfs.mounting.mounter import Mounter


class Late(fuse_loop.Loop):
    """Between "there is one" and reading it there is all the time that a test wants."""

    holds = False

    async def wait_readable(self, device: int) -> None:
        if Late.holds:
            os.write(1, b"w")
        await super().wait_readable(device)
        if Late.holds:
            os.write(1, b"s")
            Late.holds = bool(os.read(0, 1))


def _ready() -> None:
    Late.holds = True
    os.write(1, b"ready\n")


def main() -> int:
    fuse_loop.Loop = Late
    mounter = Mounter(mount_directory.prepare(sys.argv[1]), os.geteuid(), os.getegid())
    options = daemon.MountOptions(mountpoint=sys.argv[1], device=mounter.mount().device)
    return daemon.serve(options, _ready)


if __name__ == "__main__":
    sys.exit(main())
