# SPDX-License-Identifier: MIT
"""What the kernel holds of a mount: inodes, attributes, and the directories it takes for removed.

Knows inode numbers and lookups; never what a node shows.
"""

from ccfs.ops.cached_inodes import CachedInodes
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.invalidation import stale, stale_records
from ccfs.ops.notifications import Notifications
from ccfs.ops.redirected_opens import RedirectedOpens
from ccfs.ops.reissued_inodes import ReissuedInodes
from ccfs.ops.stale_retries import StaleRetries
from ccfs.ops.waiters import Waiters
from ccfs.service.commit import Committer
from ccfs.store.effects import Effects

_BYTES, _CHANGED = Slot.BYTES, Slot.CHANGED
RETRY_SECONDS = 2.0
"""Seconds after a take-over in which any task may retry after an ESTALE of the last daemon."""


class KernelCache:
    """Counts lookups, and invalidates what a step made stale.

    `lookups`: how often the kernel was given each generation and FIFO, by serial number.  `inodes`:
    those whose attributes it may cache.  `taken_over`: whether an earlier daemon has
    served the connection, so that the kernel may hold any inode that exists by now.
    """

    def __init__(
        self,
        committer: Committer,
        notifications: Notifications,
        waiters: Waiters,
        *,
        taken_over: bool = False,
    ) -> None:
        self._store = committer.store
        self._notifications = notifications
        self._waiters = waiters
        self.lookups: dict[int, int] = {}
        self._in_reply = 0
        self.inodes = CachedInodes(self._store.last_serial if taken_over else 0)
        self.redirected = RedirectedOpens(committer.notes)
        self.reissued = ReissuedInodes(committer.notes)
        retry_until = committer.clock() + RETRY_SECONDS if taken_over else 0.0
        self.retries = StaleRetries(committer.clock, retry_until)

    def add_lookup(self, ref: Ref, pid: int) -> None:
        """The kernel gets an inode for a name, which the process `pid` asked for.

        Only generations and FIFOs are counted: the kernel's FORGET frees something for these.
        """
        slot = ref.slot
        if slot is not _BYTES and slot is not _CHANGED:
            return
        serial = ref.serial
        self.lookups[serial] = self.lookups.get(serial, 0) + 1
        if slot is _BYTES:
            self.retries.record_lookup(serial)
        else:
            self._waiters.add_fifo(serial, pid)

    def forget(self, ref: Ref, count: int) -> None:
        """Handle FORGET: the kernel has dropped `count` lookups of an inode.

        It has the inode until all lookups are dropped: one may have been answered while the kernel
        sent a FORGET for earlier ones.
        """
        slot, serial = ref.slot, ref.serial
        if slot is not _BYTES and slot is not _CHANGED:
            return
        left = self.lookups.pop(serial, 0) - count
        if left > 0:
            self.lookups[serial] = left
        elif slot is _BYTES:
            self.retries.forget(serial)
            self.redirected.forget(serial)
            self._store.generations.forget(serial)
        else:
            self._waiters.fifos.discard(serial)

    def add_attributes(self, inode: int) -> None:
        """The present reply gives the kernel attributes of an inode, which it may cache."""
        self.inodes.add(inode)
        self._in_reply = inode

    def reissue(self, directory: Ref) -> None:
        """Give a directory another inode number: the kernel marked its inode dead after rmdir."""
        self.reissued.reissue(directory, self._store.new_serial())

    def invalidate(self, effects: Effects) -> None:
        """Have the kernel drop the attributes that steps have made stale."""
        if effects.removed_records:
            for inode in stale_records(effects.removed_serials, self.inodes):
                self._invalidate(inode)
        for ref in stale(effects):
            self._invalidate(self.reissued.inode_of(ref).inode)
        if effects.destroyed:
            self.reissued.forget(effects.destroyed)

    def _invalidate(self, inode: int) -> None:
        """Have the kernel drop cached attributes.

        The inode of the present reply stays in `inodes`: the kernel caches that reply afterwards.
        """
        if inode in self.inodes:
            self._notifications.invalidate(inode)
            if inode != self._in_reply:
                self.inodes.discard(inode)
