# SPDX-License-Identifier: MIT
"""Open files: read, mapped or written in part before the kills, and the rest afterwards.

Each class holds one thing, and changes only the ccache that it was given.  Knows what must still
work afterwards, never what happened meanwhile.
"""

import errno
import mmap
import os
from pathlib import Path

from reliability.takeover import contents
from reliability.takeover.closing import HERE, Closing, ccache
from tests.support.clients.python import records


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


class PartReader(Closing):
    """A file read in part, and to its end afterwards: it goes on where it was."""

    def __init__(self, mount: Path, name: str) -> None:
        super().__init__()
        self.path = mount / name
        self.file = self.open(self.path, os.O_RDONLY)
        self.beginning = os.read(self.file, 10)
        self.image = self.path.read_bytes()

    def check(self) -> None:
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)
        found = self.beginning
        while piece := os.read(self.file, 1 << 16):
            found += piece
        assert found[: len(self.image)] == self.image, (len(found), len(self.image))


class Mapping(Closing):
    """A mapped ccache.  It is read by write(2), to which a page that can't be had is EFAULT."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.image = ccache(mount).read_bytes()
        self.file = self.open(ccache(mount), os.O_RDONLY)
        self.map = mmap.mmap(self.file, 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
        self.stack.callback(self.map.close)

    def check(self) -> None:
        self.map.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)
        reader, writer = os.pipe()
        try:
            assert os.write(writer, self.map) == len(self.image)
            assert os.read(reader, 1 << 16) == self.image
        finally:
            os.close(reader)
            os.close(writer)


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


class CredentialWriter(Closing):
    """A credential half written to `credentials/`; the other half and the close come afterwards."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "half")
        self.data = records.record("host/half-a-credential")
        place = self.path.parent / "credentials/new"
        self.file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        assert os.write(self.file, self.data[:200]) == 200

    def check(self) -> None:
        try:
            assert os.write(self.file, self.data[200:]) == len(self.data) - 200
        finally:
            os.close(self.file)
        found = contents.servers_in(self.path.read_bytes())
        assert found == [*HERE, "host/half-a-credential"], found


class Transaction(Closing):
    """`new`: a ccache was made, and its identifier is read only afterwards."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.mount = mount
        self.file = self.open(mount / "new", os.O_RDWR)
        os.write(self.file, b"create by-new\talice@KRBTEST.COM")

    def check(self) -> None:
        said = os.read(self.file, 100).decode().strip()
        info = (self.mount / "caches/by-new/info").read_text()
        assert said
        assert f"id: {said}\n" in info, (said, info)
