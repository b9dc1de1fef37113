# SPDX-License-Identifier: MIT
"""A file under random reads, writes, truncations and mappings, against what it should hold.

In the manner of fsx (Apple and NeXT): one model in memory, one file, many ways to get at it.  This
file knows descriptors and bytes; it never knows what the file system is.
"""

import mmap
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 48 * 1024
"""Bytes of the file at most: twelve pages, so that pieces meet often."""
PIECE = 9000

Step = Callable[["Fsx"], None]


@dataclass
class Fsx:
    """One run: the file at `path` must always hold what `model` holds.

    `mapped` says whether shared writable mappings are tried, too.
    """

    path: Path
    choose: random.Random
    mapped: bool
    model: bytearray = field(default_factory=bytearray)
    done: list[str] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def run(self, count: int) -> None:
        """Do `count` steps; AssertionError, with the last of them, where bytes differ."""
        self.descriptors = [os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2)]
        steps = STEPS + MAPPINGS if self.mapped else STEPS
        try:
            for _ in range(count):
                self.choose.choice(steps)(self)
            self.look_again()
        except (AssertionError, OSError) as error:
            error.add_note("last steps: " + "; ".join(self.done[-12:]))
            raise
        finally:
            for descriptor in self.descriptors:
                os.close(descriptor)

    def _descriptor(self) -> int:
        return self.choose.choice(self.descriptors)

    def _say(self, what: str, *numbers: int) -> None:
        self.done.append(f"{what} {numbers}")

    def _range(self, most: int) -> tuple[int, int]:
        offset = self.choose.randrange(most + 1)
        return offset, self.choose.randrange(1, PIECE)

    def _same(self, found: bytes, offset: int, size: int) -> None:
        wanted = bytes(self.model[offset : offset + size])
        assert len(found) == len(wanted), (offset, size, len(found), len(wanted))
        if found != wanted:
            at = next(i for i in range(len(found)) if found[i] != wanted[i])
            raise AssertionError(f"byte {offset + at} is {found[at]:#x}, not {wanted[at]:#x}")

    def read(self) -> None:
        offset, size = self._range(len(self.model))
        self._say("read", offset, size)
        self._same(os.pread(self._descriptor(), size, offset), offset, size)

    def write(self) -> None:
        offset, size = self._range(min(len(self.model) + 3000, LARGEST - 1))
        data = self.choose.randbytes(min(size, LARGEST - offset))
        self._say("write", offset, len(data))
        written = os.pwrite(self._descriptor(), data, offset)
        assert written == len(data)
        self._grow(offset)
        self.model[offset : offset + len(data)] = data

    def append(self) -> None:
        size = min(self.choose.randrange(1, PIECE), LARGEST - len(self.model))
        data = self.choose.randbytes(size)
        self._say("append", len(self.model), size)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)
        self.model += data

    def _grow(self, size: int) -> None:
        if size > len(self.model):
            self.model += bytes(size - len(self.model))

    def truncate(self) -> None:
        size = self.choose.randrange(LARGEST)
        self._say("truncate", size)
        if self.choose.randrange(2):
            os.ftruncate(self._descriptor(), size)
        else:
            os.truncate(self.path, size)
        self._grow(size)
        del self.model[size:]

    def size(self) -> None:
        self._say("size")
        assert os.fstat(self._descriptor()).st_size == len(self.model)
        assert self.path.stat().st_size == len(self.model)

    def reopen(self) -> None:
        self._say("reopen")
        os.close(self.descriptors.pop(0))
        self.descriptors.append(os.open(self.path, os.O_RDWR))

    def sync(self) -> None:
        self._say("sync")
        os.fsync(self._descriptor())

    def read_mapped(self) -> None:
        if not self.model:
            return
        offset, size = self._range(len(self.model) - 1)
        self._say("read mapped", offset, size)
        with mmap.mmap(self._descriptor(), len(self.model), mmap.MAP_SHARED, mmap.PROT_READ) as m:
            self._same(m[offset : offset + size], offset, size)

    def write_mapped(self) -> None:
        if not self.model:
            return
        offset, size = self._range(len(self.model) - 1)
        data = self.choose.randbytes(min(size, len(self.model) - offset))
        self._say("write mapped", offset, len(data))
        with mmap.mmap(self._descriptor(), len(self.model)) as m:
            m[offset : offset + len(data)] = data
            m.flush()
        self.model[offset : offset + len(data)] = data

    def look_again(self) -> None:
        """The whole file, by another descriptor."""
        self._say("look again")
        self._same(self.path.read_bytes(), 0, LARGEST)


STEPS: list[Step] = [
    *(Fsx.read, Fsx.read, Fsx.write, Fsx.write, Fsx.append, Fsx.truncate),
    *(Fsx.size, Fsx.reopen, Fsx.sync, Fsx.read_mapped),
]
MAPPINGS: list[Step] = [Fsx.write_mapped]
