# SPDX-License-Identifier: MIT
"""Directories held open, a shell in the mount, a container with a bind mount of it, its device."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reliability.takeover.closing import MANY, SECONDS, Closing, ccache


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


class Device(Closing):
    """The mount's device number and root are what they were: it is the same mount."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.mount = mount
        self.before = self._numbers()

    def _numbers(self) -> tuple[int, int, list[str]]:
        status = os.stat(self.mount)
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return status.st_dev, status.st_ino, [line for line in lines if str(self.mount) in line]

    def check(self) -> None:
        now = self._numbers()
        assert now == self.before, f"{now}, not {self.before}"
