"""What users and programs hold open over an upgrade: descriptors, locks, directories, processes.

Each class holds one thing in `caches/quiet`, which only these checks change, and each only its own
part of it.  Knows what must still work afterwards, never what happened meanwhile.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reliability import writers
from reliability.takeover import contents
from reliability.takeover.holder import Maker
from tests.clients.python import records

QUIET, CHANGED, CHANGED_IN_QUIET = "quiet", "changed", "changed-in-quiet"
HERE = ["host/quiet-1", "host/quiet-2"]
MANY = 1000
"""Credentials in the directory that is read in two parts: more than one getdents(2) brings."""
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
WHOLE_FILE = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
TO_READ = struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 0, 0)
IN_MODIFY, IN_ATTRIB, IN_UNMOUNT, IN_IGNORED = 0x2, 0x4, 0x2000, 0x8000
SECONDS = 10.0
ONCE = os.EX_TEMPFAIL


def prepare(mount: Path) -> None:
    """Make the ccaches that are held: one for each kind of use, so that none disturbs another."""
    for name in (QUIET, "changes", "appended", "watched", "locked", "scratch", "superseded"):
        (mount / "caches" / name).mkdir()
        (mount / "caches" / name / "ccache").write_bytes(records.ccache(HERE))
    for name in (CHANGED, CHANGED_IN_QUIET, "many"):
        (mount / "caches" / name).mkdir()
    image = records.ccache(f"host/many-{number}" for number in range(MANY))
    (mount / "caches/many/ccache").write_bytes(image)


def ccache(mount: Path, name: str = QUIET) -> Path:
    return mount / "caches" / name / "ccache"


class Closing:
    """Something that ends with a stack of things to close."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()

    def close(self) -> None:
        self.stack.close()

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        self.stack.callback(os.close, descriptor)
        return descriptor

    def start(self, argv: list[str], **options: object) -> "subprocess.Popen[str]":
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
        process: subprocess.Popen[str] = subprocess.Popen(argv, **settings)  # type: ignore[call-overload]
        self.stack.callback(process.kill)
        return process


class Reader(Closing):
    """A file held open, read at once or only afterwards."""

    def __init__(self, mount: Path, begin: int = 100) -> None:
        super().__init__()
        self.image = ccache(mount).read_bytes()
        self.file = self.open(ccache(mount), os.O_RDONLY)
        assert os.pread(self.file, begin, 0) == self.image[:begin]

    def check(self) -> None:
        assert os.fstat(self.file).st_size == len(self.image)
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)  # else the kernel has the pages
        for offset in (0, 1, len(self.image) - 1):
            assert os.pread(self.file, 1 << 16, offset) == self.image[offset:]


class SupersededReader(Closing):
    """A file held open whose ccache was replaced since: its old bytes, or ESTALE."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        file = ccache(mount, "superseded")
        self.image = file.read_bytes()
        self.file = self.open(file, os.O_RDONLY)
        scratch = file.with_name("ccache.new")
        scratch.write_bytes(records.ccache(["host/other"]))
        scratch.rename(file)

    def check(self) -> None:
        try:
            assert os.pread(self.file, 1 << 16, 0) == self.image
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise


class Writer(Closing):
    """A ccache held open for appending: what is appended afterwards is there, once."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "appended")
        self.file = self.open(self.path, os.O_WRONLY | os.O_APPEND)

    def check(self) -> None:
        data = records.record("host/appended")
        assert os.write(self.file, data) == len(data)
        found = contents.servers_in(self.path.read_bytes())
        assert found == [*HERE, "host/appended"], found


class TailWriter(Closing):
    """A ccache that has half of a record when the daemon dies; the other half comes afterwards."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "changes")
        self.data = records.record("host/in-two-parts")
        self.file = self.open(self.path, os.O_WRONLY | os.O_APPEND)
        assert os.write(self.file, self.data[:300]) == 300

    def check(self) -> None:
        assert os.write(self.file, self.data[300:]) == len(self.data) - 300
        found = contents.servers_in(self.path.read_bytes())
        assert found == [*HERE, "host/in-two-parts"], found


class ScratchWriter(Closing):
    """A scratch file half written; the rest, and the rename over `ccache`, come afterwards."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "scratch")
        self.scratch = self.path.with_name("ccache.half")
        self.image = records.ccache(["host/scratch-1", "host/scratch-2"])
        self.file = self.open(self.scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        assert os.write(self.file, self.image[:700]) == 700

    def check(self) -> None:
        assert os.write(self.file, self.image[700:]) == len(self.image) - 700
        self.scratch.rename(self.path)
        assert self.path.read_bytes() == self.image


class Lock(Closing):
    """An OFD lock: a second process that wants to write is still kept out until it is released."""

    def __init__(self, mount: Path, name: str, lock: bytes) -> None:
        super().__init__()
        self.path = mount / "caches/locked" / name
        self.file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.stack.callback(self._release)
        fcntl.fcntl(self.file, F_OFD_SETLK, lock)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.file)

    def check(self) -> None:
        assert self._second() == ONCE, "a second process got the lock, too"
        os.close(self.file)
        assert self._second() == 0, "a second process did not get the released lock"

    def _second(self) -> int:
        program = (
            "import fcntl, os, sys, struct\n"
            "file = os.open(sys.argv[1], os.O_RDWR)\n"
            "whole = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0)\n"
            "try: fcntl.fcntl(file, 37, whole)\n"
            "except BlockingIOError: sys.exit(75)\n"
        )
        argv = ["timeout", "10", sys.executable, "-S", "-c", program, str(self.path)]
        return subprocess.run(argv, check=False, timeout=SECONDS + 5).returncode


class Directory(Closing):
    """A directory stream opened before, perhaps read in part, and read to its end afterwards."""

    def __init__(self, mount: Path, begin: int) -> None:
        super().__init__()
        path = mount / "caches/many/credentials"
        self.entries: Iterator[os.DirEntry[str]] = self.stack.enter_context(os.scandir(path))
        self.names = [next(self.entries).name for _ in range(begin)]

    def check(self) -> None:
        self.names += [entry.name for entry in self.entries]
        wanted = {f"host%2Fmany-{number}@KRBTEST.COM" for number in range(MANY)}
        assert len(self.names) == MANY, f"{len(self.names)} names of {MANY}"
        assert set(self.names) == wanted


class Shell(Closing):
    """A shell whose working directory is in the mount."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.image = ccache(mount).read_bytes()
        directory = ccache(mount).parent
        self.process = self.start(
            ["sh"], cwd=directory, stdin=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def check(self) -> None:
        said, _ = self.process.communicate(
            "pwd -P; wc -c <ccache; cat ../quiet/info; ls .", SECONDS
        )
        assert str(len(self.image)) in said.split(), said
        assert {"name:", "ccache", "credentials"} <= set(said.split()), said


class Tail(Closing):
    """`tail -f events`: each event from here on exactly once, and in order."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.mount = mount
        # -s: it looks again every so many seconds where inotify does not serve
        argv = ["tail", "-n", "1", "-s", "0.1", "-f", str(mount / "events")]
        self.output = tempfile.TemporaryFile(dir=mount.parent)  # noqa: SIM115
        self.stack.callback(self.output.close)
        self.process = self.start(argv, stdout=self.output, stderr=subprocess.STDOUT)
        while not self._lines():
            time.sleep(0.01)

    def _lines(self) -> list[str]:
        data = os.pread(self.output.fileno(), 1 << 30, 0)
        return data.decode().splitlines()

    def check(self) -> None:
        (ccache(self.mount, "superseded").parent / "kdc_offset").write_text("60\n")
        events = (self.mount / "events").read_text().splitlines()
        deadline = time.monotonic() + SECONDS
        while self._lines()[-1] != events[-1] and time.monotonic() < deadline:
            time.sleep(0.05)
        said = self._lines()
        assert self.process.poll() is None, f"tail ended: {said[-1]}"
        wanted = events[events.index(said[0]) :]
        assert said == wanted, _first_difference(said, wanted)


def _first_difference(said: list[str], wanted: list[str]) -> str:
    pairs = enumerate(zip(said, wanted, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(said), len(wanted)))
    return f"line {at} of {len(said)}: {said[at : at + 2]}, not {wanted[at : at + 2]}"


class Cat(Closing):
    """`cat changed`: does not return without a change, and returns after one."""

    def __init__(self, mount: Path, name: str) -> None:
        super().__init__()
        self.directory = mount / "caches" / name
        self.process = self.start(["cat", str(self.directory / "changed")], stderr=subprocess.PIPE)
        _asleep(self.process.pid)

    def check(self) -> None:
        assert self.process.poll() is None, f"it returned: {self.process.communicate()}"
        (self.directory / "ccache").write_bytes(records.ccache(HERE))
        said = self.process.communicate(timeout=SECONDS)
        assert (self.process.returncode, *said) == (0, "", ""), (self.process.returncode, said)


def _asleep(pid: int) -> None:
    """Wait until a process waits in open(2) of a FIFO (proc(5), wchan)."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/wchan").read_text() in ("wait_for_partner", "fifo_open", "pipe_read"):
            return
        if Path(f"/proc/{pid}/syscall").read_text().startswith(("257 ", "0 ")):
            time.sleep(0.2)  # open or read: where wchan says nothing
            return
        time.sleep(0.01)


class Watch(Closing):
    """inotify on a ccache's file and on its directory: a change is told, the watches are alive."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "watched")
        libc = ctypes.CDLL(None, use_errno=True)
        self.file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stack.callback(os.close, self.file)
        for path in (self.path, self.path.parent):
            if libc.inotify_add_watch(self.file, os.fsencode(path), IN_MODIFY | IN_ATTRIB) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def check(self) -> None:
        lost = [mask for _, mask in self._events() if mask & (IN_UNMOUNT | IN_IGNORED)]
        assert not lost, "a watch is gone"
        writers.append_one(self.path, records.record("host/watched"))
        deadline, told = time.monotonic() + SECONDS, set[int]()
        while told != {1, 2}:
            assert time.monotonic() < deadline, f"told by {sorted(told)} of watches 1 and 2"
            select.select([self.file], [], [], 0.5)
            told |= {watch for watch, mask in self._events() if mask & (IN_MODIFY | IN_ATTRIB)}

    def _events(self) -> list[tuple[int, int]]:
        try:
            data, found, at = os.read(self.file, 1 << 16), [], 0
        except BlockingIOError:
            return []
        while at < len(data):
            watch, mask, _, length = struct.unpack_from("iIII", data, at)
            found.append((watch, mask))
            at += 16 + length
        return found


class Container(Closing):
    """A process in a mount namespace of its own that sees the mount by a bind mount alone."""

    PROGRAM = """
import json, os, sys, time
target, failures, rounds = sys.argv[1], [], 0
os.set_blocking(0, False)
while True:
    try:
        names = sorted(os.listdir(target))
        with open(target + "/caches/quiet/ccache", "rb") as file:
            size = len(file.read())
        rounds += 1
    except OSError as error:
        failures.append(f"{error.strerror} ({error.filename})")
        names, size = [], 0
    try:
        if os.read(0, 1):
            print(json.dumps([names, size, rounds, len(failures), failures[:3]]), flush=True)
            break
    except BlockingIOError:
        pass
    time.sleep(0.02)
"""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.image = ccache(mount).read_bytes()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory(dir=mount.parent))
        script = (
            'mount --bind "$1" "$2" && umount -l "$1" && echo ready && exec "$3" -S -c "$4" "$2"'
        )
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        argv += ["sh", str(mount), directory, sys.executable, self.PROGRAM]
        self.process = self.start(argv, stdin=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def check(self) -> None:
        said, _ = self.process.communicate("c", SECONDS)
        names, size, rounds, failed, failures = json.loads(said)
        assert not failed, f"{failed} failures in {rounds} rounds: {failures}"
        assert rounds > 0
        assert {"caches", "default", "events"} <= set(names), names
        assert size == len(self.image)


HELD: dict[str, Maker] = {
    "reader": Reader,
    "reader of a file not read before": lambda mount: Reader(mount, 0),
    "superseded reader": SupersededReader,
    "writer, appends": Writer,
    "writer, half a record": TailWriter,
    "writer, half a scratch file": ScratchWriter,
    "OFD lock on lock": lambda mount: Lock(mount, "lock", WHOLE_FILE),
    # a lock for reading: klist -l reads every ccache under one
    "OFD lock on ccache": lambda mount: Lock(mount, "ccache", TO_READ),
    "directory stream, not read": lambda mount: Directory(mount, 0),
    "directory stream, read in part": lambda mount: Directory(mount, 1),
    "shell in the mount": Shell,
    "tail -f events": Tail,
    "cat changed": lambda mount: Cat(mount, CHANGED),
    "inotify": Watch,
    "container": Container,
}
