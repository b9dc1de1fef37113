"""What keeps a FUSE connection alive between two daemons: its descriptor, and their shared memory.

The process that starts daemons holds both.  The kernel ends the connection when its last descriptor
is closed; until then requests wait, and the next daemon answers them.

Knows two descriptors and the kernel's first request; never processes, nor paths.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass

from ccfs.errors import MountError
from ccfs.linux.fusermount import wait_readable
from ccfs.takeover import handover
from ccfs.takeover.handover import Handover

SECONDS = 5.0
"""Until the first request: mount(2) queues it before it returns."""


@dataclass(frozen=True, slots=True)
class FuseConnection:
    """One connection.

    `device`: its descriptor.  `shared`: that of the memory (ccfs.takeover.handover), -1 where
    daemons of this connection leave nothing to the next.
    """

    device: int
    shared: int = -1

    @classmethod
    def begin(cls, device: int) -> FuseConnection:
        """The link of a new mount, whose first request is taken.  Raises MountError, OSError."""
        made = Handover()
        try:
            greet(device, made)
        except BaseException:
            os.close(made.descriptor)
            raise
        finally:
            made.unmap()
        return cls(device, made.descriptor)

    @property
    def descriptors(self) -> list[int]:
        """What a daemon is to have of it."""
        return [one for one in (self.device, self.shared) if one >= 0]

    @property
    def can_resend(self) -> bool:
        """Whether the kernel gives to the next daemon what the last one has not answered."""
        return self.shared >= 0 and handover.can_resend(handover.init_in(self.shared))

    @property
    def lives(self) -> bool:
        """Whether the connection was not aborted."""
        poll = select.poll()
        poll.register(self.device, 0)
        return not poll.poll(0)  # POLLERR is told of unasked

    def close(self) -> None:
        """Let go of it: without a daemon the connection ends."""
        for one in self.descriptors:
            os.close(one)


def greet(device: int, to: Handover) -> None:
    """Take the kernel's first request (FUSE_INIT) for all daemons of a connection to answer.

    Raises MountError, OSError.
    """
    if not wait_readable(device, SECONDS):
        raise MountError("the kernel does not begin to speak FUSE", "see the kernel's log: 'dmesg'")
    to.renew(os.read(device, handover.INIT_MOST))
