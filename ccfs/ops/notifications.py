# SPDX-License-Identifier: MIT
"""What a file system sends outside of replies: to the kernel, and by the notifier process.

Interfaces only: the daemon and pyfuse3 implement them.
"""

from collections.abc import Iterable
from typing import Protocol


class Poll(Protocol):
    """A client's poll(2) on a file (pyfuse3.PollHandle)."""

    def notify(self) -> None:
        """Have the kernel ask again whether the file is readable (FUSE_NOTIFY_POLL)."""


class Notifications(Protocol):
    """Sends notifications.  Serial numbers are the store's; 0 is the collection."""

    def invalidate(self, inode: int) -> None:
        """Have the kernel drop the cached attributes of an inode."""

    def invalidate_entry(self, directory: int, name: bytes) -> None:
        """Have the kernel drop the dentry of a name in a directory."""

    def has_inode(self, inode: int) -> bool:
        """Whether the kernel has an inode; invalidates its cached attributes, too."""

    def wake_fifo(self, serial: int) -> None:
        """Wake the readers of the `changed` FIFO of a ccache."""

    def locate_fifo(self, serial: int) -> None:
        """Have the notifier look up the FIFO of a ccache, so that it can wake its readers.

        It does so before there is need: a FIFO is to be woken also when this daemon has died.
        """

    def touch_file(self, ident: str) -> None:
        """Have inotify watches on the file of a ccache see a change."""

    def schedule(self, due: float | None) -> None:
        """Do maintenance at `due` (seconds since the epoch) at the latest; None: no need."""

    def record_polls(self, polls: Iterable[Poll]) -> None:
        """Record all polls in the handover page, for the next daemon to wake."""
