# SPDX-License-Identifier: MIT
"""One user's file system: what all nodes and handlers share.

Knows no FUSE session: the daemon passes `Notifications`.
"""

from ccfs.ops.kernel_cache import KernelCache
from ccfs.ops.notifications import Notifications
from ccfs.ops.open_handles import OpenHandles
from ccfs.ops.removed_names import RemovedNames
from ccfs.ops.set_times import SetTimes
from ccfs.ops.text_cache import TextCache
from ccfs.ops.waiters import Waiters
from ccfs.service.commit import Committer
from ccfs.service.info import MountInfo


class FileSystem:
    """The parts, each with its own reason to change.

    `taken_over`: whether an earlier daemon has served this FUSE connection, so that the kernel
    may use inodes and handles that this one has not given out.  `resent`: whether the next request
    is one that the earlier daemon has carried out and not answered.
    """

    def __init__(
        self,
        committer: Committer,
        info: MountInfo,
        notifications: Notifications,
        *,
        notifier_pid: int = 0,
        taken_over: bool = False,
    ) -> None:
        self.committer = committer
        self.store = committer.store
        self.info = info
        self.notifications = notifications
        self.taken_over = taken_over
        self.resent = False
        self.handles = OpenHandles(self.store.limits.handles, committer.handover)
        self.waiters = Waiters(self.store, notifications, notifier_pid)
        self.kernel_cache = KernelCache(
            committer, notifications, self.waiters, taken_over=taken_over
        )
        self.texts = TextCache()
        self.set_times = SetTimes(committer.notes)
        self.removed_names = RemovedNames(committer.notes)
        committer.subscribe(self.texts.drop_removed)
        committer.subscribe(self.kernel_cache.invalidate)
        committer.subscribe(self.waiters.wake)

    def expect_resent(self) -> None:
        """The next request is one that an earlier daemon has carried out and not answered."""
        self.resent = True
