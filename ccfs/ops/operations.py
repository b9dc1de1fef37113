"""The pyfuse3 handlers: each finds the node, asks it, and puts the answer into the kernel's terms.

The kernel's word on the caller decides in each of them that opens, lists, creates or changes
anything; a handle, once open, is a capability.
"""

import errno
import os
import select
import stat
from collections.abc import Sequence
from typing import Any, cast

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from ccfs.ops import ccache_file, rename, resent_requests, tree
from ccfs.ops.attributes import BLOCK, Entry, attributes
from ccfs.ops.barrier import HANDLERS, handler, notice
from ccfs.ops.credentials import pending_of
from ccfs.ops.errnos import AccessError, HandleLimitError, WrongKindError
from ccfs.ops.file_system import Poll, Server
from ccfs.ops.handles import Handle, ListHandle
from ccfs.ops.inodes import Ref, Slot, ref
from ccfs.ops.node import Attributes, Opening
from ccfs.store import Stamp
from ccfs.store.errors import ExistsError, GoneError, NotPermittedError

SPARE = 64
"""How often the mount's `info` may be open beyond the limit: it tells whom to end, or to blame."""

_BYTES, _CHANGED = Slot.BYTES, Slot.CHANGED
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_INFO = Ref(0, Slot.INFO)


class Operations(pyfuse3.Operations):
    """One user's mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        server.requests.update(dict.fromkeys(HANDLERS, 0))

    @handler
    def lookup(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        found = tree.find(self.server, self._ref(parent), name, ctx.pid)
        return self._shown(found, ctx.pid)

    @notice
    def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        for inode, count in inodes:
            known = ref(inode)
            if known is not None:
                self.server.forget(known, count)

    @handler
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        found = self._ref(inode)
        try:
            return self._attributes(found)
        except GoneError:
            if found.slot is _BYTES and self.server.retries_again(found.serial, ctx.pid):
                raise ccache_file.gone(self.server, found.serial) from None
            raise

    @handler
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """What access(2) and chdir(2) ask where the kernel doesn't look at the mode by itself."""
        self._admit(ctx)
        return not mode & ~(tree.ROWS[self._ref(inode).slot].mode >> 6)

    @handler
    def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        self._admit(ctx)
        found = self._ref(inode)
        _refuse_changes(self._attributes(found), attr, fields)
        if fields.update_size:
            at = self._stamp(ctx)
            tree.ROWS[found.slot].node.truncate(self.server, found.serial, attr.st_size, at)
        elif fields.update_atime or fields.update_mtime:
            self._set_times(found, attr, fields)
        return self._attributes(found)

    @handler
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        self._admit(ctx)
        found = self._ref(inode)
        return tree.ROWS[found.slot].node.readlink(self.server, found.serial)

    @handler
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        self._admit(ctx)
        raise NotPermittedError("no devices, no FIFOs of one's own")

    @handler
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        at, where = self._free(parent, name, ctx)
        node = tree.directory(where)
        return self._attributes(node.mkdir(self.server, where.serial, name, at))

    @handler
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        at, where = self._free(parent, name, ctx)
        node = tree.directory(where)
        made: Any = self._attributes(node.symlink(self.server, where.serial, name, target, at))
        self.server.removed.take_back(where, name, at.now)
        made.entry_timeout = 0.0  # what was asked for may be done, and the name not be there
        return cast(EntryAttributes, made)

    @handler
    def link(self, inode: int, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        raise NotPermittedError("every name here has its own file")

    @handler
    def unlink(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        at, where = self._stamp(ctx), self._ref(parent)
        known = self._passed_over(where, name)
        if known is None:
            tree.directory(where).unlink(self.server, where.serial, name, at)
        else:
            tree.ROWS[known.slot].node.unlinked(self.server, known.serial, at)
            self.server.removed.add(where, name, at.now)

    @handler
    def rmdir(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        at, where = self._stamp(ctx), self._ref(parent)
        known = self._passed_over(where, name)
        if known is not None:
            self.server.revive(known)
        else:
            tree.directory(where).rmdir(self.server, where.serial, name, at)

    @handler
    def rename(
        self,
        old_parent: int,
        old_name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        at, source, target = self._stamp(ctx), self._ref(old_parent), self._ref(new_parent)
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise FUSEError(errno.EINVAL)
        if flags & pyfuse3.RENAME_NOREPLACE:
            self._free(new_parent, new_name, ctx)
        tree.check_length(new_name)
        rename.rename(self.server, (source, old_name), (target, new_name), at)

    @handler
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        self._admit(ctx)
        found, server = self._ref(inode), self.server
        at = (server.stamp if flags & _CHANGES else server.glance)(ctx.uid, ctx.pid)
        self._room_for_a_handle(SPARE if found == _INFO else 0)
        return self._open(found, _opening(flags, at, ctx.pid))

    @handler
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        at, where = self._stamp(ctx), self._ref(parent)
        opening = _opening(flags, at, ctx.pid)
        self._room_for_a_handle()
        if self.server.removed.take_back(where, name, at.now):
            flags &= ~os.O_EXCL
        if tree.exists(self.server, where, name):
            found = tree.find(self.server, where, name, ctx.pid)
            _check_openable(found, flags)
            return self._open(found, opening), self._shown(found, ctx.pid)
        made, handle = tree.directory(where).create(self.server, where.serial, name, opening)
        return self._opened(handle, made, opening), self._shown(made, ctx.pid)

    @handler
    def read(self, fh: int, offset: int, size: int) -> bytes:
        return self._handle(fh).read(offset, size)

    @handler
    def write(self, fh: int, offset: int, data: bytes) -> int:
        handle = self._handle(fh)
        self.server.asking = handle.who
        return handle.write(offset, data, self.server.clock())

    @handler
    def flush(self, fh: int) -> None:
        # Asked once, then never again: what can be refused is refused at the write.
        raise FUSEError(errno.ENOSYS)

    @handler
    def fsync(self, fh: int, datasync: bool) -> None:
        self._handle(fh).sync(self.server.clock())

    @handler
    def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._handle(fh)

    @handler
    def release(self, fh: int) -> None:
        handle = self.server.handles.pop(fh, None)
        if handle is None and self.server.live:
            handle = resent_requests.reopen(self.server, fh, to_close=True)
        if handle is not None:
            if self.server.polls.pop(fh, None):
                self.server.kernel.note_polls(self.server.polls.values())
            handle.release(self.server.clock())

    @handler
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        self._admit(ctx)
        self.server.glance(ctx.uid, ctx.pid)
        self._room_for_a_handle()
        where = self._ref(inode)
        self.server.removed.show(where)
        return self.server.add(ListHandle(list(tree.entries(self.server, where))), where)

    @handler
    def readdir(self, fh: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        handle, entry = self._handle(fh), Entry(self.server.owner)
        if not isinstance(handle, ListHandle):
            raise WrongKindError
        for at in range(start, len(handle.entries)):
            name, found = handle.entries[at]
            if not self._listed(entry, found):
                continue
            if not pyfuse3.readdir_reply(token, name, entry.attributes, at + 1):
                break
            self.server.show(found, self.server.helper)

    @handler
    def releasedir(self, fh: int) -> None:
        self.server.handles.pop(fh, None)

    @handler
    def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        return self._statfs()

    @handler
    def poll(self, inode: int, fh: int, poll: Poll | None, ctx: RequestContext) -> int:
        handle = self._handle(fh)
        ready = handle.readable()
        if poll is not None and handle.grows:
            self.server.polls[fh] = poll
            self.server.kernel.note_polls(self.server.polls.values())
        return select.POLLOUT | (select.POLLIN | select.POLLRDNORM if ready else 0)

    def _admit(self, ctx: RequestContext) -> None:
        """Let the owner in, root where the mount was made so, nobody else."""
        owner = self.server.owner
        if ctx.uid != owner.uid and not (ctx.uid == 0 and owner.root):
            raise AccessError

    def _stamp(self, ctx: RequestContext) -> Stamp:
        self._admit(ctx)
        return self.server.stamp(ctx.uid, ctx.pid)

    def _ref(self, inode: int) -> Ref:
        found = ref(inode)
        if found is None:
            raise GoneError("a number that was never given")
        return self.server.faces.meant(found)

    def _free(self, parent: int, name: bytes, ctx: RequestContext) -> tuple[Stamp, Ref]:
        """Refuse to make a name that is there."""
        at, where = self._stamp(ctx), self._ref(parent)
        if tree.exists(self.server, where, name):
            raise ExistsError("the name is taken")
        return at, where

    def _passed_over(self, where: Ref, name: bytes) -> Ref | None:
        """What stays although its removal is accepted: `rm -r` of a ccache must get through.

        So must `rm default && ln -s caches/NAME default`.
        """
        known = tree.fixed(where, name)
        if known is not None and where.slot is not Slot.CCACHE and known.slot is not Slot.DEFAULT:
            raise NotPermittedError("part of the mount itself")
        return known

    def _handle(self, fh: int) -> Handle:
        handle = self.server.handles.get(fh)
        if handle is None and self.server.live:
            handle = resent_requests.reopen(self.server, fh)
            if handle is not None:
                self.server.handles[fh] = handle
        if handle is None:
            raise FUSEError(errno.EBADF)
        return handle

    def _open(self, found: Ref, opening: Opening) -> FileInfo:
        row = tree.ROWS[found.slot]
        _check_mode(row.mode, opening)
        return self._opened(row.node.open(self.server, found.serial, opening), found, opening)

    def _room_for_a_handle(self, spare: int = 0) -> None:
        most = self.server.store.limits.handles
        if len(self.server.handles) >= most + spare:
            raise HandleLimitError(f"over {most} open files")

    def _opened(self, handle: Handle, found: Ref, opening: Opening) -> FileInfo:
        handle.who = opening.at.client
        info = FileInfo()
        writes, append = opening.writes, opening.append
        info.fh = self.server.add(handle, found, writes=writes, append=append)
        info.direct_io = handle.direct
        info.keep_cache = not handle.direct
        return info

    def attributes_of(self, inode: int) -> EntryAttributes:
        """What stat(2) says of an inode."""
        return self._attributes(self._ref(inode))

    def shown_at(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """What the kernel gets of what a client has made."""
        made: Any = self._attributes(tree.find(self.server, self._ref(parent), name, ctx.pid))
        made.entry_timeout = 0.0  # the name may be another one's than what was made
        return cast(EntryAttributes, made)

    def opened_at(
        self, parent: int, name: bytes, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """What the kernel gets of a file that a client has made and opened."""
        server, at = self.server, self.server.glance(ctx.uid, ctx.pid)
        where = self._ref(parent)
        found = pending_of(server, where, name) or tree.find(server, where, name, ctx.pid)
        opening = _opening(flags, at, ctx.pid)._replace(truncate=False)
        info = self._open(found, opening)
        return info, self._shown(found, ctx.pid)

    def _shown(self, found: Ref, pid: int) -> EntryAttributes:
        """Attributes of an inode that the kernel gets by its name."""
        attributes = self._attributes(found)
        self.server.show(found, pid)
        return attributes

    def _listed(self, entry: Entry, found: Ref) -> bool:
        """Fill in what a listing promised; False where it is gone by now."""
        try:
            said = self._said(found)
        except GoneError:
            return False
        entry.fill(self._given(found, said), tree.ROWS[found.slot].mode, said)
        return True

    def _attributes(self, found: Ref) -> EntryAttributes:
        said = self._said(found)
        inode, mode = self._given(found, said), tree.ROWS[found.slot].mode
        return attributes(self.server.owner, inode, mode, said)

    def _given(self, found: Ref, said: Attributes) -> int:
        """The number to give for an inode, noted where the kernel may hold what it gets with it."""
        inode = said.inode or self.server.faces.shown(found).inode
        if said.attr_timeout:
            self.server.give(inode)
        return inode

    def _set_times(
        self, found: Ref, wanted: EntryAttributes, fields: pyfuse3.SetattrFields
    ) -> None:
        said = self._said(found)
        atime, mtime = said.set_times or (int(said.mtime * 1e9),) * 2
        if fields.update_atime:
            atime = wanted.st_atime_ns
        if fields.update_mtime:
            mtime = wanted.st_mtime_ns
        self.server.times.set(found, said.mtime, (atime, mtime))

    def _said(self, found: Ref) -> Attributes:
        """What a node says of itself, with the times that the user has set for it."""
        said = tree.ROWS[found.slot].node.attributes(self.server, found.serial)
        times = self.server.times.get(found, said.mtime)
        return said if times is None else said._replace(set_times=times)

    def _statfs(self) -> pyfuse3.StatvfsData:
        store: Any = self.server.store
        limits, used = store.limits, store.used_bytes
        data: Any = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK
        data.f_blocks = limits.total_bytes // BLOCK
        data.f_bfree = data.f_bavail = max(limits.total_bytes - used, 0) // BLOCK
        data.f_files = limits.ccaches
        data.f_ffree = data.f_favail = limits.ccaches - len(store.collection.all())
        data.f_namemax = 255
        return cast(pyfuse3.StatvfsData, data)


def _opening(flags: int, at: Stamp, task: int) -> Opening:
    return Opening(
        at=at,
        task=task,
        writes=flags & os.O_ACCMODE != os.O_RDONLY,
        append=bool(flags & os.O_APPEND),
        truncate=bool(flags & os.O_TRUNC),
    )


def _refuse_changes(
    now: EntryAttributes, wanted: EntryAttributes, fields: pyfuse3.SetattrFields
) -> None:
    """Accept a mode and an owner that are so already; no other can be set."""
    if (
        (fields.update_mode and stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(now.st_mode))
        or (fields.update_uid and wanted.st_uid != now.st_uid)
        or (fields.update_gid and wanted.st_gid != now.st_gid)
    ):
        raise NotPermittedError("modes and owners can't be changed")


def _check_openable(found: Ref, flags: int) -> None:
    """Refuse what stands in the way of a new file.

    Where nobody insists on a new one, a file is opened that has come through another name since
    the kernel looked.
    """
    if flags & os.O_EXCL or not stat.S_ISREG(tree.ROWS[found.slot].mode):
        raise ExistsError("the name is taken")


def _check_mode(mode: int, opening: Opening) -> None:
    """The mode bits hold for everyone: uid 0 may own a mount, too."""
    if (opening.writes or opening.truncate) and not mode & stat.S_IWUSR:
        raise AccessError
