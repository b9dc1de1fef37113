# SPDX-License-Identifier: MIT
"""What a daemon does that takes a FUSE connection over from another.

It opens the other daemon's handles again when they are used, as far as the handle number and the
journal describe them, and sends the notifications that the other had no time for.

Knows the tree and the file system; never the bytes of a ccache.
"""

from ccfs.ops import handle_numbers, tree
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, ListHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Directory, Opening
from ccfs.store.effects import Effects
from ccfs.takeover.handover import KICKS, NOTIFYING, TOUCHES, Handover


def reopen(fs: FileSystem, number: int, *, to_close: bool = False) -> Handle | None:
    """Make a handle of an earlier daemon's number; None where no handle can have the number.

    `to_close`: the handle is only to be released; None unless it writes, since only then the
    release has an effect.  Raises StoreError where its file does not exist any more.
    """
    decoded = handle_numbers.decode(number)
    if decoded is None or (to_close and not decoded.writes):
        return None
    node, serial = tree.ROWS[decoded.ref.slot].node, decoded.ref.serial
    if isinstance(node, Directory):
        return ListHandle(list(tree.entries(fs, decoded.ref)))
    at = fs.committer.stamp_read(fs.info.owner.uid, 0)
    opening = Opening(at, 0, decoded.writes, decoded.append, truncate=False)
    handle = node.reopen(fs, serial, opening, number)
    handle.client = at.client
    handle.set_number(number)
    return handle


def resume(fs: FileSystem, handover: Handover, last: Effects | None) -> None:
    """Send the notifications that the last daemon owes.

    `last`: the effects of the last step in the journal; None where there is no journal.
    """
    kicks, touches = handover.stored(KICKS), handover.stored(TOUCHES)
    notifications = fs.notifications
    serials = {0, *(ccache.serial for ccache in fs.store.collection.all())}
    fs.waiters.fifos = {
        serial for serial in serials if notifications.has_inode(Ref(serial, Slot.CHANGED).inode)
    }
    _forget_unopened(fs)
    if handover.words[NOTIFYING] and last is not None:
        fs.committer.publish(last)
        handover.words[NOTIFYING] = 0
    for kick in kicks:
        notifications.wake_fifo(kick - 1)
    for touch in touches:
        ccache = fs.store.collection.by_serial(touch - 1)
        if ccache is not None and ccache.current:
            notifications.touch_file(ccache.ident)


def _forget_unopened(fs: FileSystem) -> None:
    """Forget superseded generations that no client has open: the kernel has no inode of them."""
    generations = fs.store.generations

    def has_inode(number: int) -> bool:
        return fs.notifications.has_inode(Ref(number, Slot.BYTES).inode)

    opened = fs.kernel_cache.redirected.prune(has_inode)
    opened.update(filter(has_inode, generations.numbers()))
    for number in generations.unopened(opened):
        generations.forget(number)
    fs.committer.commit_or_warn()
