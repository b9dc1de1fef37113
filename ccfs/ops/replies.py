# SPDX-License-Identifier: MIT
"""Replies with attributes: what the kernel gets of an inode, and may cache.

Knows rows of the tree and what the kernel holds; never the arguments of a request.
"""

from typing import Any, cast

import pyfuse3
from pyfuse3 import EntryAttributes

from ccfs.ops import tree
from ccfs.ops.attributes import BLOCK, ReusedEntry, entry_attributes
from ccfs.ops.file_system import FileSystem
from ccfs.ops.inodes import Ref
from ccfs.ops.node import Attributes
from ccfs.store.errors import GoneError
from ccfs.store.values import NAME_MAX


def attributes(fs: FileSystem, ref: Ref) -> EntryAttributes:
    """Return the attributes of an inode."""
    node_attributes = _node_attributes(fs, ref)
    inode, mode = _inode(fs, ref, node_attributes), tree.ROWS[ref.slot].mode
    return entry_attributes(fs.info.owner, inode, mode, node_attributes)


def entry(fs: FileSystem, ref: Ref, pid: int) -> EntryAttributes:
    """Return the attributes of an inode for a name: the kernel counts a lookup of it."""
    found = attributes(fs, ref)
    fs.kernel_cache.add_lookup(ref, pid)
    return found


def uncached_entry(fs: FileSystem, ref: Ref) -> EntryAttributes:
    """Return an entry whose name may refer to another inode than `ref` by now."""
    found: Any = attributes(fs, ref)
    found.entry_timeout = 0.0
    return cast(EntryAttributes, found)


def fill(fs: FileSystem, reused: ReusedEntry, ref: Ref) -> bool:
    """Fill in the attributes of an inode of a listing; False where it does not exist any more."""
    try:
        node_attributes = _node_attributes(fs, ref)
    except GoneError:
        return False
    reused.fill(_inode(fs, ref, node_attributes), tree.ROWS[ref.slot].mode, node_attributes)
    return True


def set_times(
    fs: FileSystem, ref: Ref, attr: EntryAttributes, fields: pyfuse3.SetattrFields
) -> None:
    """Set atime, mtime or both of an inode."""
    now = _node_attributes(fs, ref)
    atime, mtime = now.set_times or (int(now.mtime * 1e9),) * 2
    if fields.update_atime:
        atime = attr.st_atime_ns
    if fields.update_mtime:
        mtime = attr.st_mtime_ns
    fs.set_times.set(ref, now.mtime, (atime, mtime))


def statfs(fs: FileSystem) -> pyfuse3.StatvfsData:
    """Return the limits of the mount as blocks and files."""
    limits, used = fs.store.limits, fs.store.used_bytes
    data: Any = pyfuse3.StatvfsData()
    data.f_bsize = data.f_frsize = BLOCK
    data.f_blocks = limits.total_bytes // BLOCK
    data.f_bfree = data.f_bavail = max(limits.total_bytes - used, 0) // BLOCK
    data.f_files = limits.ccaches
    data.f_ffree = data.f_favail = limits.ccaches - len(fs.store.collection.all())
    data.f_namemax = NAME_MAX
    return cast(pyfuse3.StatvfsData, data)


def _node_attributes(fs: FileSystem, ref: Ref) -> Attributes:
    """Return the attributes of a node, with the times that a user has set."""
    found = tree.ROWS[ref.slot].node.attributes(fs, ref.serial)
    times = fs.set_times.get(ref, found.mtime)
    return found if times is None else found._replace(set_times=times)


def _inode(fs: FileSystem, ref: Ref, node_attributes: Attributes) -> int:
    """Return the inode number to reply with; record it where the kernel may cache attributes."""
    inode = node_attributes.inode or fs.kernel_cache.reissued.inode_of(ref).inode
    if node_attributes.attr_timeout:
        fs.kernel_cache.add_attributes(inode)
    return inode
