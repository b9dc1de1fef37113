# SPDX-License-Identifier: MIT
"""What keeps a FUSE connection alive between two daemons: its descriptor, and the handover page.

The process that starts daemons holds both.  The kernel ends the connection when its last descriptor
is closed; until then requests wait, and the next daemon replies to them.

Knows two descriptors and the kernel's first request; never processes, nor paths.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass

from ccfs.errors import MountError
from ccfs.linux.descriptors import wait_readable
from ccfs.takeover import handover
from ccfs.takeover.handover import Handover

SECONDS = 5.0
"""Until the first request: mount(2) queues it before it returns."""


@dataclass(frozen=True, slots=True)
class FuseConnection:
    """One connection.

    `device`: its descriptor of /dev/fuse.  `handover`: the descriptor of the handover page, -1
    where daemons of this connection leave nothing to the next.
    """

    device: int
    handover: int = -1

    @classmethod
    def of_new_mount(cls, device: int) -> FuseConnection:
        """Take the first request of a new mount's connection.  Raises MountError, OSError."""
        page = Handover()
        try:
            take_init(device, page)
        except BaseException:
            os.close(page.descriptor)
            raise
        finally:
            page.unmap()
        return cls(device, page.descriptor)

    @property
    def descriptors(self) -> list[int]:
        """What a daemon is given of it."""
        return [descriptor for descriptor in (self.device, self.handover) if descriptor >= 0]

    @property
    def can_resend(self) -> bool:
        """True if the kernel sends the next daemon what the last one has not replied to."""
        return self.handover >= 0 and handover.can_resend(handover.init_in(self.handover))

    @property
    def is_alive(self) -> bool:
        """True if the connection was not aborted."""
        poll = select.poll()
        poll.register(self.device, 0)
        return not poll.poll(0)  # POLLERR is reported without being asked for

    def close(self) -> None:
        """Close both descriptors: without a daemon the connection ends."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def take_init(device: int, page: Handover) -> None:
    """Read the kernel's first request (FUSE_INIT) into a handover page; daemons reply to it.

    Raises MountError, OSError.
    """
    if not wait_readable(device, SECONDS):
        raise MountError(
            "the kernel does not send its first FUSE request", "see the kernel's log: 'dmesg'"
        )
    page.begin(os.read(device, handover.INIT_MAX))
