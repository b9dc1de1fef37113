# SPDX-License-Identifier: MIT
"""Waiters: clients that wait for a change of a ccache.

They read a `changed` FIFO, watch a file by inotify, or poll a growing file.  Knows serial numbers
and handles; never how a waiter is woken.
"""

from ccfs.ops.notifications import Notifications, Poll
from ccfs.store import Store
from ccfs.store.effects import Effects


class Waiters:
    """The FIFOs and polls of one mount.

    `fifos`: serial numbers of FIFOs whose inode the kernel has, so that clients may wait there.
    `polls`: polls by handle.  They stay until the handle is released: for an epoll the kernel asks
    for the state of the file again without another PollHandle.  `notifier_pid`: 0 for none.
    """

    def __init__(self, store: Store, notifications: Notifications, notifier_pid: int = 0) -> None:
        self.fifos: set[int] = set()
        self.polls: dict[int, Poll] = {}
        self.notifier_pid = notifier_pid
        self._store = store
        self._notifications = notifications

    def add_fifo(self, serial: int, pid: int) -> None:
        """A process has looked a FIFO up and may read it; the notifier never waits."""
        if pid != self.notifier_pid and serial not in self.fifos:
            self.fifos.add(serial)
            self._notifications.locate_fifo(serial)

    def add_poll(self, handle: int, poll: Poll) -> None:
        """A client polls a handle."""
        self.polls[handle] = poll
        self._notifications.record_polls(self.polls.values())

    def remove_poll(self, handle: int) -> None:
        """A handle is released."""
        if self.polls.pop(handle, None):
            self._notifications.record_polls(self.polls.values())

    def wake(self, effects: Effects) -> None:
        """Wake the waiters for what steps have changed, and schedule the next expiry."""
        if effects.changed:
            if self.fifos:
                for serial in {0, *effects.changed} & self.fifos:
                    self._notifications.wake_fifo(serial)
            self._notifications.schedule(self._store.next_deadline())
        for serial in effects.changed_outside_fuse:
            ccache = self._store.collection.by_serial(serial)
            if ccache is not None and ccache.current:
                self._notifications.touch_file(ccache.ident)
        if effects.logged:
            for poll in self.polls.values():
                poll.notify()
