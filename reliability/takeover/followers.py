# SPDX-License-Identifier: MIT
"""Clients that follow changes over the kills: `tail -f events`, `cat changed`, inotify."""

import ctypes
import os
import select
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from reliability import writers
from reliability.takeover.closing import HERE, SECONDS, Closing, ccache
from tests.support.clients.python import records

IN_MODIFY, IN_ATTRIB, IN_UNMOUNT, IN_IGNORED = 0x2, 0x4, 0x2000, 0x8000


class Tail(Closing):
    """`tail -f events`: each event from here on exactly once, and in order."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.mount = mount
        # -s: it looks again every so many seconds where inotify does not serve
        argv = ["tail", "-n", "1", "-s", "0.1", "-f", str(mount / "events")]
        self.output = tempfile.TemporaryFile(dir="/dev/shm")  # noqa: SIM115
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
        first = events[1]  # the one before it may be a line that says how many are gone
        if first in said:
            said, wanted = said[said.index(first) :], events[1:]
        else:
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
