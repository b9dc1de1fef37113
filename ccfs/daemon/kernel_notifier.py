# SPDX-License-Identifier: MIT
"""How the file system reports changes to the kernel and to clients that wait.

Knows FUSE notifications and inode numbers; the notifier does what takes a file operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import pyfuse3

from ccfs.daemon.maintenance import Deadline
from ccfs.daemon.notifier_client import NotifierClient
from ccfs.daemon.options import MountOptions
from ccfs.daemon.pollers import Pollers
from ccfs.ops.notifications import Poll
from ccfs.takeover.notifier import Notifier


class KernelNotifier:
    """Invalidates what the kernel has cached, and passes the rest on.

    `ending`: the daemon was told to end.
    """

    def __init__(self, process: Notifier | None, options: MountOptions) -> None:
        self.notifier = NotifierClient(process, options)
        self.deadline = Deadline()
        self.ending = False
        self._pollers = Pollers(options.device, options.handover)
        self._invalidate = pyfuse3.invalidate_inode
        self._invalidate_entry = pyfuse3.invalidate_entry_async
        self.wake_fifo = self.notifier.wake_fifo
        self.locate_fifo = self.notifier.locate_fifo
        self.touch_file = self.notifier.touch_file
        self.schedule = self.deadline.schedule
        self.wake_pollers = self._pollers.notify

    def invalidate(self, inode: int) -> None:
        """Have the kernel ask for an inode's attributes again, if it has the inode."""
        with suppress(OSError):
            self._invalidate(inode, attr_only=True)

    def has_inode(self, inode: int) -> bool:
        """True if the kernel has an inode; it asks for the attributes again."""
        try:
            self._invalidate(inode, attr_only=True)
        except OSError:
            return False
        return True

    def invalidate_entry(self, directory: int, name: bytes) -> None:
        """Have the kernel look a name up again, once it has the reply to the present request."""
        self._invalidate_entry(directory, name, ignore_enoent=True)

    def record_polls(self, polls: Iterable[Poll]) -> None:
        """Note all poll handles that the kernel waits with, for the next daemon."""
        self._pollers.note(polls)
