# SPDX-License-Identifier: MIT
"""A ccfs in the background with its parent process, as users have it, and nothing left of it.

Knows processes and the mount table, never what is in a mount.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint
from tests.support.processes import serving

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class BackgroundMount:
    """A mount at `path` whose journal is `journal`, below a directory of its own."""

    directory: Path
    program: str

    @property
    def path(self) -> Path:
        """The root of the mount."""
        return self.directory / "ccfs"

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.directory / "journal"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `ccfs` with a bound."""
        command = [sys.executable, "-m", self.program, *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def mount(self, *options: str) -> None:
        """Mount in the background; AssertionError where that fails."""
        done = self.run("mount", "--journal", str(self.journal), *options, str(self.path))
        assert done.returncode == 0, done.stderr

    def unmount(self) -> None:
        """End it as a user does."""
        done = self.run("unmount", str(self.path))
        assert done.returncode == 0, done.stderr

    def info(self) -> dict[str, str]:
        """The lines of `info`; OSError where there is no mount, or a dead one."""
        text = (self.path / "info").read_text()
        return dict(line.split(": ", 1) for line in text.splitlines())

    def pid(self) -> int:
        """The daemon."""
        return int(self.info()["pid"])

    def supervisor_pid(self) -> int:
        """The pid of the supervisor, from `info`."""
        return int(self.info()["keeper"])

    def come_back(self, old: str, seconds: float = SECONDS) -> tuple[float, dict[str, str]]:
        """Seconds until another server than `old` (a server id) answers, and what it says."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            with contextlib.suppress(OSError, ValueError):
                info = self.info()
                if info["server_id"] != old:
                    return time.monotonic() - began, info
            time.sleep(0.001)
        raise AssertionError(f"no daemon answers after {seconds} s")


@contextlib.contextmanager
def background_mount(program: str = "ccfs") -> Iterator[BackgroundMount]:
    """A place for one mount; whatever happens there, nothing of it is left."""
    directory = Path(tempfile.mkdtemp(prefix="ccfs-place-", dir="/dev/shm"))
    here = BackgroundMount(directory, program)
    try:
        yield here
    finally:
        clear(here)
        shutil.rmtree(directory, ignore_errors=True)


def clear(here: BackgroundMount) -> None:
    """End all that serves there, and take its mounts away."""
    for _ in range(3):  # the parent may be starting another one just now
        for pid in sorted(serving(here.path)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    while (mount := mountinfo.topmost(str(here.path))) is not None:
        mountpoint.abort(mount)
        mountpoint.unmount(str(here.path), lazy=True)
