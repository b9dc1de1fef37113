# SPDX-License-Identifier: MIT
"""The pyfuse3 handlers: each finds the node, calls it, and returns the result as pyfuse3 takes it.

Each handler that opens, lists, creates or changes anything checks the caller's uid.  An open handle
is a capability: a process may use one that it was given.
"""

import errno
import os
import select
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from ccfs.ops import ccache_file, checks, rename, replies, resume, tree
from ccfs.ops.attributes import ReusedEntry
from ccfs.ops.barrier import HANDLERS, handler, handler_without_reply
from ccfs.ops.errnos import AccessError, WrongKindError
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, ListHandle
from ccfs.ops.inodes import Ref, Slot, ref_of
from ccfs.ops.node import Opening
from ccfs.ops.notifications import Poll
from ccfs.ops.unfinished_files import unfinished_ref
from ccfs.store import Stamp
from ccfs.store.errors import ExistsError, GoneError, NotPermittedError

SPARE_HANDLES = 64
"""How many handles of the mount's `info` may be open beyond the limit, to find the cause there."""

_BYTES = Slot.BYTES
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_INFO = Ref(0, Slot.INFO)


class Operations(pyfuse3.Operations):
    """The handlers of one user's mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, fs: FileSystem) -> None:
        super().__init__()
        self.fs = fs
        self._owner = fs.info.owner
        fs.committer.requests.update(dict.fromkeys(HANDLERS, 0))

    @handler
    def lookup(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        ref = tree.find(self.fs, self._ref(parent), name, ctx.pid)
        return replies.entry(self.fs, ref, ctx.pid)

    @handler_without_reply
    def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        for inode, count in inodes:
            ref = ref_of(inode)
            if ref is not None:
                self.fs.kernel_cache.forget(ref, count)

    @handler
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        ref = self._ref(inode)
        try:
            return replies.attributes(self.fs, ref)
        except GoneError:
            retries = self.fs.kernel_cache.retries
            if ref.slot is _BYTES and retries.is_retry(ref.serial, ctx.pid):
                raise ccache_file.removed(self.fs, ref.serial) from None
            raise

    @handler
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Answer access(2) and chdir(2), which the kernel asks without `default_permissions`."""
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
        ref = self._ref(inode)
        checks.refuse_changes(replies.attributes(self.fs, ref), attr, fields)
        if fields.update_size:
            at = self._stamp(ctx)
            tree.ROWS[ref.slot].node.truncate(self.fs, ref.serial, attr.st_size, at)
        elif fields.update_atime or fields.update_mtime:
            replies.set_times(self.fs, ref, attr, fields)
        return replies.attributes(self.fs, ref)

    @handler
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        self._admit(ctx)
        ref = self._ref(inode)
        return tree.ROWS[ref.slot].node.readlink(self.fs, ref.serial)

    @handler
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        self._admit(ctx)
        raise NotPermittedError("no devices, no FIFOs of one's own")

    @handler
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        at, directory = self._absent(parent, name, ctx)
        node = tree.directory(directory)
        return replies.attributes(self.fs, node.mkdir(self.fs, directory.serial, name, at))

    @handler
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        at, directory = self._absent(parent, name, ctx)
        node = tree.directory(directory)
        ref = node.symlink(self.fs, directory.serial, name, target, at)
        entry = replies.uncached_entry(self.fs, ref)  # `ln` in a ccache makes no such name
        self.fs.removed_names.restore(directory, name, at.now)
        return entry

    @handler
    def link(self, inode: int, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self._admit(ctx)
        raise NotPermittedError("every name here has its own file")

    @handler
    def unlink(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        at, directory = self._stamp(ctx), self._ref(parent)
        fixed = checks.removable_fixed_name(directory, name)
        if fixed is None:
            tree.directory(directory).unlink(self.fs, directory.serial, name, at)
        else:
            tree.ROWS[fixed.slot].node.unlinked(self.fs, fixed.serial, at)
            self.fs.removed_names.add(directory, name, at.now)

    @handler
    def rmdir(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        at, directory = self._stamp(ctx), self._ref(parent)
        fixed = checks.removable_fixed_name(directory, name)
        if fixed is not None:
            self.fs.kernel_cache.reissue(fixed)
        else:
            tree.directory(directory).rmdir(self.fs, directory.serial, name, at)

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
            self._absent(new_parent, new_name, ctx)
        tree.check_length(new_name)
        rename.rename(self.fs, (source, old_name), (target, new_name), at)

    @handler
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        self._admit(ctx)
        ref, committer = self._ref(inode), self.fs.committer
        stamp = committer.stamp if flags & _CHANGES else committer.stamp_read
        at = stamp(ctx.uid, ctx.pid)
        self.fs.handles.check_limit(SPARE_HANDLES if ref == _INFO else 0)
        return self._open(ref, checks.opening_of(flags, at, ctx.pid))

    @handler
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        at, directory = self._stamp(ctx), self._ref(parent)
        opening = checks.opening_of(flags, at, ctx.pid)
        self.fs.handles.check_limit()
        if self.fs.removed_names.restore(directory, name, at.now):
            flags &= ~os.O_EXCL
        if tree.exists(self.fs, directory, name):
            ref = tree.find(self.fs, directory, name, ctx.pid)
            checks.check_created(ref, flags)
            return self._open(ref, opening), replies.entry(self.fs, ref, ctx.pid)
        node = tree.directory(directory)
        ref, handle = node.create(self.fs, directory.serial, name, opening)
        return self._add(handle, ref, opening), replies.entry(self.fs, ref, ctx.pid)

    @handler
    def read(self, fh: int, offset: int, size: int) -> bytes:
        return self._handle(fh).read(offset, size)

    @handler
    def write(self, fh: int, offset: int, data: bytes) -> int:
        handle, committer = self._handle(fh), self.fs.committer
        committer.client = handle.client
        return handle.write(offset, data, committer.clock())

    @handler
    def flush(self, fh: int) -> None:
        # After ENOSYS the kernel sends no FLUSH any more: a write refuses what close(2) might.
        raise FUSEError(errno.ENOSYS)

    @handler
    def fsync(self, fh: int, datasync: bool) -> None:
        self._handle(fh).sync(self.fs.committer.clock())

    @handler
    def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._handle(fh)

    @handler
    def release(self, fh: int) -> None:
        handle = self.fs.handles.by_number.pop(fh, None)
        if handle is None and self.fs.taken_over:
            handle = resume.reopen(self.fs, fh, to_close=True)
        if handle is not None:
            self.fs.waiters.remove_poll(fh)
            handle.release(self.fs.committer.clock())

    @handler
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        self._admit(ctx)
        self.fs.committer.stamp_read(ctx.uid, ctx.pid)
        self.fs.handles.check_limit()
        directory = self._ref(inode)
        self.fs.removed_names.restore_all(directory)
        entries = list(tree.entries(self.fs, directory))
        return self.fs.handles.add(ListHandle(entries), directory)

    @handler
    def readdir(self, fh: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        handle, reused = self._handle(fh), ReusedEntry(self._owner)
        if not isinstance(handle, ListHandle):
            raise WrongKindError
        fs = self.fs
        for at in range(start, len(handle.entries)):
            name, ref = handle.entries[at]
            if not replies.fill(fs, reused, ref):
                continue
            if not pyfuse3.readdir_reply(token, name, reused.entry, at + 1):
                break
            # A client that lists a directory does not wait at a FIFO: no more than the notifier.
            fs.kernel_cache.add_lookup(ref, fs.waiters.notifier_pid)

    @handler
    def releasedir(self, fh: int) -> None:
        self.fs.handles.by_number.pop(fh, None)

    @handler
    def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        return replies.statfs(self.fs)

    @handler
    def poll(self, inode: int, fh: int, poll: Poll | None, ctx: RequestContext) -> int:
        handle = self._handle(fh)
        ready = handle.readable()
        if poll is not None and handle.grows:
            self.fs.waiters.add_poll(fh, poll)
        return select.POLLOUT | (select.POLLIN | select.POLLRDNORM if ready else 0)

    def attributes_of(self, inode: int) -> EntryAttributes:
        """Reply to a resent setattr."""
        return replies.attributes(self.fs, self._ref(inode))

    def entry_made(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Reply to a resent mkdir or symlink; the name may be another inode's by now."""
        ref = tree.find(self.fs, self._ref(parent), name, ctx.pid)
        return replies.uncached_entry(self.fs, ref)

    def file_made(
        self, parent: int, name: bytes, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Reply to a resent create: open the file, without O_TRUNC."""
        fs, at = self.fs, self.fs.committer.stamp_read(ctx.uid, ctx.pid)
        directory = self._ref(parent)
        ref = unfinished_ref(fs, directory, name) or tree.find(fs, directory, name, ctx.pid)
        opening = checks.opening_of(flags, at, ctx.pid)._replace(truncate=False)
        info = self._open(ref, opening)
        return info, replies.entry(fs, ref, ctx.pid)

    def _admit(self, ctx: RequestContext) -> None:
        """Refuse any uid but the owner's, and root's where the mount was made with allow_root."""
        if ctx.uid != self._owner.uid and not self._owner.admits(ctx.uid):
            raise AccessError

    def _stamp(self, ctx: RequestContext) -> Stamp:
        self._admit(ctx)
        return self.fs.committer.stamp(ctx.uid, ctx.pid)

    def _ref(self, inode: int) -> Ref:
        ref = ref_of(inode)
        if ref is None:
            raise GoneError("an unknown inode number")
        return self.fs.kernel_cache.reissued.resolve(ref)

    def _absent(self, parent: int, name: bytes, ctx: RequestContext) -> tuple[Stamp, Ref]:
        """Begin a step that makes a name; refuse it where the name exists."""
        at, directory = self._stamp(ctx), self._ref(parent)
        if tree.exists(self.fs, directory, name):
            raise ExistsError("the name is taken")
        return at, directory

    def _handle(self, fh: int) -> Handle:
        handle = self.fs.handles.by_number.get(fh)
        if handle is None and self.fs.taken_over:
            handle = resume.reopen(self.fs, fh)
            if handle is not None:
                self.fs.handles.by_number[fh] = handle
        if handle is None:
            raise FUSEError(errno.EBADF)
        return handle

    def _open(self, ref: Ref, opening: Opening) -> FileInfo:
        row = tree.ROWS[ref.slot]
        checks.check_mode(row.mode, opening)
        return self._add(row.node.open(self.fs, ref.serial, opening), ref, opening)

    def _add(self, handle: Handle, ref: Ref, opening: Opening) -> FileInfo:
        handle.client = opening.at.client
        info = FileInfo()
        writes, append = opening.writes, opening.append
        info.fh = self.fs.handles.add(handle, ref, writes=writes, append=append)
        info.direct_io = handle.direct
        info.keep_cache = not handle.direct
        return info
