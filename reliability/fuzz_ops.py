# SPDX-License-Identifier: MIT
"""Random operations on a file system: a refusal is an errno value that says something, never EIO.

    python -m reliability.fuzz_ops --count 100000 [--seed N]      the handlers, without a mount
    python -m reliability.fuzz_ops --mount --count 2000           a real mount, by path

Each sequence begins with a fresh file system (in a mount: with what the one before has left) and
follows from its number, so that one that fails can be done again: `--seed NUMBER --count 1`.  After
each the store's invariants hold, everything that is open is closed, and everything listed is read.
Nothing may pass the barrier, whose log stays empty.
"""

import contextlib
import errno
import logging
import os
import random
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyfuse3

from ccfs.ops.handles import BytesHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.store import Limits
from reliability.fuzzing import Complaints, argument_parser, blocks, peak, resident
from tests.support import mounting
from tests.support.clients.python import records
from tests.support.direct import UID, Caller, Fields, FileSystem, Page
from tests.support.mounting import Mounted, mounts
from tests.support.storing import check

LENGTH = 24
"""Operations of a sequence."""
GROWTH = 2000
"""Blocks of memory that caches may take; a leak of one in each sequence is more."""
LIMITS = Limits(ccaches=6, ccache_bytes=4096, total_bytes=16_384, events=50, handles=12)

ANSWERS = {
    errno.EACCES,
    errno.EBADF,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EBADMSG,
    errno.EINVAL,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOSYS,
    errno.ENOTDIR,
    errno.EPERM,
    errno.ESTALE,
}
OF_THE_KERNEL = {
    errno.ENOTEMPTY,
    errno.ENXIO,
    errno.ELOOP,
    errno.EFBIG,
    errno.EBUSY,
    errno.ENODEV,
    errno.ESPIPE,
}
"""Further errors of operations by path, raised by the kernel itself."""

CCACHES = [b"tkt", b"a", b"tktAbC", b"%2F", b"b c"]
NAMES = [
    *CCACHES,
    *(b"tkt." + name for name in (b"a", b"new")),
    b"ccache",
    b"principal",
    b"credentials",
    b"config",
    b"kdc_offset",
    b"info",
    b"ids",
    b"changed",
    b"lock",
    b"default",
    b"caches",
    b"dir",
    b"by-id",
    b"new",
    b"events",
    b"stats",
    b"README",
    b"primary",
    b"scratch",
    b"pa_type",
    b"fast_avail~krbtgt%2FR@R",
    b"host%2Fa@KRBTEST.COM",
    b"host%2Fb@KRBTEST.COM",
    b"x" * 255,
    b"y" * 256,
    b"%",
    b"%00",
    b"..",
    b"\xff\xfe",
    b"a\nb",
    b"1f.raw",
]
NAMES_INSIDE = [name for name in NAMES if name != b".."]
SERVERS = ["host/a", "host/b", "krbtgt/KRBTEST.COM"]
RECORDS = [records.record(server) for server in SERVERS]
IMAGE = records.ccache(SERVERS)
DATA = [
    b"",
    b"0",
    b"-30\n",
    b"bob@R\n",
    b"alice/admin@KRBTEST.COM",
    b"tkt.a\n",
    b"tktAbC",
    b"new carol@R\n",
    b"default dave@R",
    b"create %2F eve@R\n",
    b"\x05\x04",
    b"no ccache",
    bytes(300),
    b"\xff" * 40,
    *RECORDS,
    IMAGE,
    IMAGE[:200],
    records.ccache([]),
    b"\x05\x03" + IMAGE[4:],
    bytes(5000),
]
DIRECTORIES = [
    *(b"", b"caches", b"dir", b"default", b"by-id"),
    *(b"caches/%s", b"caches/%s", b"caches/%s/credentials", b"caches/%s/config"),
]
TARGETS = [b"caches/a", b"caches/tkt/", b"/", b"..", b"caches/absent", b"x" * 5000, b"\0"]
INSIDE = [b"caches/a", b"caches/tkt/", b"caches/absent", b"lock", b"x" * 5000]
"""Targets of links in a mount: none leads to another file system when it is followed."""
MODES = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC]
OFFSETS = [0, 0, 0, 1, 100, len(IMAGE), 4096, 1 << 31, (1 << 62)]


@dataclass
class Sequence:
    """One file system, and the inodes, names and handles that its replies gave."""

    choose: random.Random
    fs: FileSystem = field(default_factory=lambda: FileSystem(limits=LIMITS))
    inodes: list[int] = field(default_factory=lambda: [pyfuse3.ROOT_INODE])
    directories: list[int] = field(default_factory=lambda: [pyfuse3.ROOT_INODE])
    places: list[tuple[int, bytes]] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Carry it out and see that all is well."""
        self.fs.write("caches/tkt/ccache", IMAGE)
        for path in ("caches", "dir", "caches/tkt", "caches/tkt/credentials", "caches/tkt/config"):
            self._meet(self.fs.stat(path))
        for _ in range(LENGTH):
            self.step()
        self.end()

    def step(self) -> None:
        """One operation, chosen at random."""
        name = self.choose.choice(OPERATIONS)
        arguments = getattr(self, f"_{name}")()
        if arguments is None:
            return
        self.done.append(f"{name}{arguments!r:.200}")
        with self._refusable():
            self._learn(self.fs.call(name, *arguments))
            if name in ("lookup", "create", "mkdir", "symlink"):
                self.places.append(arguments[:2])

    @contextlib.contextmanager
    def _refusable(self) -> Any:
        try:
            yield
        except pyfuse3.FUSEError as error:
            assert error.errno in ANSWERS, errno.errorcode[error.errno]  # noqa: PT017

    def _learn(self, answer: Any) -> None:
        for part in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(part, pyfuse3.EntryAttributes):
                self._meet(part)
            elif isinstance(part, pyfuse3.FileInfo):
                self.handles.append(part.fh)

    def _meet(self, attributes: Any) -> None:
        known = self.directories if stat.S_ISDIR(attributes.st_mode) else self.inodes
        known.append(attributes.st_ino)

    def end(self) -> None:
        """Check the store, close everything, read everything, check it again."""
        committer, store = self.fs.committer, self.fs.file_system.store
        check(store, self._files())
        self.fs.clock.now += self.choose.choice((0, 1, 700))
        store.scratch.expire(self.fs.clock())
        store.announce_expiry(int(self.fs.clock()), committer.client)
        committer.commit()
        for handle in list(self.fs.file_system.handles.by_number):
            self.fs.call("release", handle)
        self._look()
        check(store)

    def _files(self) -> list[Any]:
        handles = self.fs.file_system.handles.by_number.values()
        return [handle._file for handle in handles if isinstance(handle, BytesHandle)]

    def _look(self) -> None:
        for path in self.fs.all_paths():
            kind = stat.S_IFMT(self.fs.stat(path).st_mode)
            if kind == stat.S_IFREG:
                self.fs.read(path)
            elif kind == stat.S_IFLNK:
                self.fs.readlink(path)

    # What each handler is called with; None for nothing at all.

    def _inode(self) -> int:
        if not self.choose.randrange(12):
            return self.choose.choice(
                (0, 2, 31, 1 << 40, (1 << 64) - 1, self.choose.getrandbits(50))
            )
        return self.choose.choice(
            self.inodes[-12:] if self.choose.randrange(8) else self.directories
        )

    def _directory(self) -> int:
        return self.choose.choice(self.directories) if self.choose.randrange(12) else self._inode()

    def _place(self) -> tuple[int, bytes]:
        """A name in a directory, most often one that was there once."""
        if self.places and self.choose.randrange(3):
            return self.choose.choice(self.places[-10:])
        return self._directory(), self._name()

    def _name(self) -> bytes:
        return self.choose.choice(NAMES)

    def _who(self) -> Caller:
        return Caller(uid=self.choose.choice((UID,) * 20 + (0, 1001)))

    def _handle(self) -> int:
        return self.choose.choice(self.handles) if self.handles else 999

    def _lookup(self) -> Any:
        return self._directory(), self._name(), self._who()

    def _unlink(self) -> Any:
        return *self._place(), self._who()

    _rmdir = _unlink

    def _getattr(self) -> Any:
        return self._inode(), self._who()

    _readlink = _getattr

    def _setattr(self) -> Any:
        wanted: Any = pyfuse3.EntryAttributes()
        wanted.st_size = self.choose.choice((0, 0, 10, len(IMAGE), 5000, 1 << 40))
        wanted.st_mode = self.choose.choice((0o100600, 0o100644))
        wanted.st_uid, wanted.st_gid = self.choose.choice((UID, 0)), UID
        wanted.st_mtime_ns = int(self.fs.clock() * 1e9)
        fields = Fields(
            update_size=bool(self.choose.randrange(3)),
            update_mode=not self.choose.randrange(4),
            update_uid=not self.choose.randrange(8),
            update_mtime=not self.choose.randrange(3),
        )
        return self._inode(), wanted, fields, None, self._who()

    def _mknod(self) -> Any:
        return self._directory(), self._name(), 0o010600, 0, self._who()

    def _mkdir(self) -> Any:
        return self._directory(), self._name(), 0o700, self._who()

    def _symlink(self) -> Any:
        return self._directory(), self._name(), self.choose.choice(TARGETS), self._who()

    def _link(self) -> Any:
        return self._inode(), self._inode(), self._name(), self._who()

    def _rename(self) -> Any:
        flags = self.choose.choice((0, 0, 0, 1, 2, 7))
        return *self._place(), *self._place(), flags, self._who()

    def _open(self) -> Any:
        return self._inode(), self.choose.choice(MODES), self._who()

    def _create(self) -> Any:
        flags = self.choose.choice(MODES) | os.O_CREAT | self.choose.choice((0, os.O_EXCL))
        return self._directory(), self._name(), 0o600, flags, self._who()

    def _read(self) -> Any:
        return self._handle(), self.choose.choice(OFFSETS), self.choose.choice((1, 100, 131072))

    def _write(self) -> Any:
        data = self.choose.choice(DATA)
        if not self.choose.randrange(4):
            data = data[: self.choose.randrange(len(data) + 1)]
        return self._handle(), self.choose.choice(OFFSETS), data

    def _fsync(self) -> Any:
        return self._handle(), False

    def _release(self) -> Any:
        handle = self._handle()
        if handle in self.handles:
            self.handles.remove(handle)
        return (handle,)

    def _poll(self) -> Any:
        return self._inode(), self._handle(), Woken(), self._who()

    def _opendir(self) -> None:
        """List a directory, in two pages, one of which may be lost."""
        with self._refusable():
            where = self._directory()
            handle = self.fs.call("opendir", where, self._who())
            self.done.append("opendir")
            for start in (0, 5, 1000):
                page = Page(5)
                with page.taken():
                    self.fs.call("readdir", handle, start, page)
                for name, attributes in page.entries:
                    self._meet(attributes)
                    self.places.append((where, name))
            if self.choose.randrange(3):
                self.fs.call("releasedir", handle)

    def _forget(self) -> Any:
        """Forget an inode that the kernel has looked up."""
        lookups = self.fs.file_system.kernel_cache.lookups.items()
        given = [(Ref(serial, Slot.BYTES).inode, n) for serial, n in lookups]
        return ([self.choose.choice(given)],) if given else None

    def _statfs(self) -> Any:
        return (self._who(),)

    def _clock(self) -> None:
        self.fs.clock.now += self.choose.choice((0.01, 0.5, 1, 400, -5))


class Woken:
    """A poll handle that ignores its notification."""

    def notify(self) -> None:
        pass


OPERATIONS = (
    *("lookup",) * 8,
    *("open", "create", "write") * 6,
    *("read", "release", "rename", "unlink", "setattr") * 3,
    *("opendir", "getattr", "mkdir", "rmdir", "symlink") * 2,
    *("readlink", "mknod", "link", "poll", "fsync", "forget", "statfs", "clock"),
)


def run(count: int, seed: int) -> None:
    """Carry `count` sequences out; raises for the first that breaks something, and says which."""
    complaints = Complaints()
    logging.getLogger("ccfs").addHandler(complaints)
    early = 0
    for number in range(seed, seed + count):
        sequence = Sequence(random.Random(number))
        try:
            sequence.run()
            assert not complaints.lines, complaints.lines
        except BaseException as error:
            error.add_note(f"seed {number}: " + "; ".join(sequence.done))
            raise
        if number - seed == count // 10:
            early = blocks()
        if (number - seed + 1) % 10_000 == 0:
            print(f"{number - seed + 1} sequences, peak {peak()} KiB", flush=True)
    logging.getLogger("ccfs").removeHandler(complaints)
    grown = blocks() - early
    assert grown < GROWTH, f"{grown} blocks of memory were not given back"
    print(f"{count} sequences of {LENGTH}: nothing past the barrier; {grown} blocks more in use")


Step = Callable[[], object]


@dataclass
class Walk:
    """Random operations by path on a real mount."""

    top: bytes
    choose: random.Random
    descriptors: list[int] = field(default_factory=list)

    def run(self) -> None:
        """One sequence; OSError of a kind that no path should give is raised."""
        for _ in range(LENGTH):
            step = self.choose.choice(STEPS)
            try:
                step(self)
            except OSError as error:
                if error.errno not in ANSWERS | OF_THE_KERNEL:
                    raise

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def path(self) -> bytes:
        """Some path, most often one that may be."""
        choose = self.choose
        deep = choose.choice(DIRECTORIES)
        directory = deep % choose.choice(CCACHES) if b"%s" in deep else deep
        return b"/".join((self.top, directory, choose.choice(NAMES_INSIDE)))

    def open(self) -> None:
        if len(self.descriptors) > 8:
            os.close(self.descriptors.pop(self.choose.randrange(8)))
        flags = self.choose.choice(MODES) | self.choose.choice((0, os.O_CREAT, os.O_CREAT))
        self.descriptors.append(os.open(self.path(), flags | os.O_NONBLOCK, 0o600))

    def write(self) -> None:
        if self.descriptors:
            descriptor = self.choose.choice(self.descriptors)
            offset = self.choose.choice(OFFSETS)
            os.pwrite(descriptor, self.choose.choice(DATA), offset)

    def read(self) -> None:
        if self.descriptors:
            os.pread(self.choose.choice(self.descriptors), 4096, self.choose.choice(OFFSETS))

    def look(self) -> None:
        if self.descriptors:
            descriptor = self.choose.choice(self.descriptors)
            os.fstat(descriptor)
            poll = select.poll()
            poll.register(descriptor)
            poll.poll(0)

    def rename(self) -> None:
        os.rename(self.path(), self.path())

    def unlink(self) -> None:
        os.unlink(self.path())

    def mkdir(self) -> None:
        os.mkdir(self.path())

    def rmdir(self) -> None:
        os.rmdir(self.path())

    def symlink(self) -> None:
        os.symlink(self.choose.choice(INSIDE), self.path())

    def link(self) -> None:
        os.link(self.path(), self.path())

    def truncate(self) -> None:
        os.truncate(self.path(), self.choose.choice((0, 10, len(IMAGE), 1 << 30)))

    def attributes(self) -> None:
        path = self.path()
        os.stat(path)
        os.utime(path)
        os.chmod(path, self.choose.choice((0o600, 0o644)))

    def listing(self) -> None:
        for entry in os.scandir(self.path()):
            entry.stat(follow_symlinks=False)


STEPS: tuple[Callable[[Walk], None], ...] = (
    *(Walk.open, Walk.open, Walk.write, Walk.write, Walk.write, Walk.read, Walk.look),
    *(Walk.rename, Walk.rename, Walk.unlink, Walk.mkdir, Walk.rmdir, Walk.symlink, Walk.link),
    *(Walk.truncate, Walk.attributes, Walk.listing),
)


def run_mount(mounted: Mounted, count: int, seed: int) -> None:
    """Carry `count` sequences out in a mount, which must have nothing to complain of."""
    early = 0
    for number in range(seed, seed + count):
        choose = random.Random(number)
        walk = Walk(os.fsencode(mounted.path), choose)
        try:
            walk.run()
        except BaseException as error:
            error.add_note(f"seed {number}")
            raise
        finally:
            walk.close()
        if number - seed == count // 10:
            early = resident(mounted.pid)
    assert mounted.complaints() == [], mounted.complaints()
    (mounted.path / "info").read_bytes()
    now = resident(mounted.pid)
    print(f"{count} sequences of {LENGTH} in a mount: all answered; resident {early} -> {now} KiB")


def main() -> None:
    """The command line."""
    parser = argument_parser(__doc__, 100_000)
    parser.add_argument("--mount", action="store_true")
    given = parser.parse_args()
    if not given.mount:
        run(given.count, given.seed)
        return
    mounting.GUARD_SECONDS = 24 * 3600.0
    with mounts() as maker:
        options = ("--max-ccache-size", "64K", "--max-total-size", "512K", "--max-ccaches", "20")
        run_mount(maker.make(*options), given.count, given.seed)


if __name__ == "__main__":
    main()
