# SPDX-License-Identifier: MIT
"""A file system of the plainest pyfuse3: directories and files in memory, and nothing else.

    python -m bench.plain_fuse MOUNTPOINT

The baseline to measure against, about a day's work: it has the timeouts and the page
cache that ccfs has, no journal and no events; it checks no caller and parses no content.
"""

import errno
import os
import stat
import sys
import time
from dataclasses import dataclass, field

import pyfuse3
import trio

TIMEOUT = 3600.0
Context = pyfuse3.RequestContext


@dataclass
class Node:
    """A directory (`entries`) or a file (`data`)."""

    mode: int
    data: bytearray = field(default_factory=bytearray)
    entries: dict[bytes, int] = field(default_factory=dict)
    changed: int = field(default_factory=time.time_ns)


class Plain(pyfuse3.Operations):
    """The handlers; a handle is the inode."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = {pyfuse3.ROOT_INODE: Node(stat.S_IFDIR | 0o700)}
        self.last = pyfuse3.ROOT_INODE

    def find(self, parent: int, name: bytes) -> int:
        inode = self.nodes[parent].entries.get(name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return inode

    def make(self, parent: int, name: bytes, mode: int) -> int:
        self.last += 1
        self.nodes[self.last] = Node(mode)
        self.nodes[parent].entries[name] = self.last
        return self.last

    def attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        node, entry = self.nodes[inode], pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_mode, entry.st_nlink = inode, node.mode, 1
        entry.st_size, entry.st_blksize = len(node.data), 4096
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = node.changed
        entry.attr_timeout = entry.entry_timeout = TIMEOUT
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Context) -> pyfuse3.EntryAttributes:
        return self.attributes(self.find(parent, name))

    async def getattr(self, inode: int, ctx: Context) -> pyfuse3.EntryAttributes:
        return self.attributes(inode)

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: Context,
    ) -> pyfuse3.EntryAttributes:
        node = self.nodes[inode]
        if fields.update_size:
            del node.data[attr.st_size :]
            node.data.extend(bytes(attr.st_size - len(node.data)))
        if fields.update_mode:
            node.mode = attr.st_mode
        return self.attributes(inode)

    async def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: Context
    ) -> pyfuse3.EntryAttributes:
        return self.attributes(self.make(parent, name, stat.S_IFDIR | mode & 0o777))

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: Context
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = self.make(parent, name, stat.S_IFREG | mode & 0o777)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True), self.attributes(inode)

    async def open(self, inode: int, flags: int, ctx: Context) -> pyfuse3.FileInfo:
        if flags & os.O_TRUNC:
            self.nodes[inode].data.clear()
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self.nodes[fh].data[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.nodes[fh].data[off : off + len(buf)] = buf
        return len(buf)

    async def unlink(self, parent: int, name: bytes, ctx: Context) -> None:
        self.find(parent, name)
        del self.nodes[parent].entries[name]

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Context,
    ) -> None:
        inode = self.find(parent_inode_old, name_old)
        del self.nodes[parent_inode_old].entries[name_old]
        self.nodes[parent_inode_new].entries[name_new] = inode

    async def rmdir(self, parent: int, name: bytes, ctx: Context) -> None:
        await self.unlink(parent, name, ctx)

    async def opendir(self, inode: int, ctx: Context) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        entries = [*self.nodes[fh].entries.items()]
        for number, (name, inode) in enumerate(entries[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self.attributes(inode), number):
                break

    async def flush(self, fh: int) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: int) -> None:
        pass


def main() -> None:
    """Serve until killed."""
    options = {*pyfuse3.default_options, "fsname=plain"} - {"default_permissions"}
    pyfuse3.init(Plain(), sys.argv[1], options)
    print("ready", flush=True)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
