# SPDX-License-Identifier: MIT
"""Kill the daemon, or run a command that replaces it, and wait until another one answers.

Knows the daemon by `info` in the mount.  Every look at the mount is made by a child process with a
bound, so that a mount that hangs never hangs the program.
"""

import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import children, parent

PATIENCE = 30.0
"""Seconds until a mount that does not answer is given up."""
COMMAND_SECONDS = 60.0
OWN_DEATH_SECONDS = 10.0
"""Seconds until a daemon that does not die by itself is killed."""


class GivenUpError(Exception):
    """Nothing answers any more: the rest of the run is left out."""


@dataclass
class Killer:
    """Kills, with when each began and when another daemon answered (time.monotonic)."""

    mount: Path
    look: Callable[[Callable[[], bytes], float], bytes]
    """Does something in a child process that is a client of the mount (bounded.call)."""
    chance: random.Random
    every: float
    stopped: float = 0.25
    """How many of the daemons are stopped (SIGSTOP) for a moment before they are killed."""
    others: float = 0.0
    """How many of the kills hit another child of the daemon's parent first (a spare)."""
    command: str | None = None
    deaths: Path | None = None
    """Where daemons of reliability/dying.py write down when they die by themselves."""
    times: list[tuple[float, float]] = field(default_factory=list)
    others_killed: int = 0
    own_deaths: int = 0

    def pid(self) -> int:
        """The daemon that serves now; TimeoutError, OSError."""
        text = self.look((self.mount / "info").read_bytes, PATIENCE).decode()
        return int(dict(line.split(": ", 1) for line in text.splitlines())["pid"])

    def kill(self) -> None:
        """End one daemon at a random moment; GivenUpError where none follows."""
        if self.deaths is None:
            time.sleep(self.every * (0.6 + 0.4 * self.chance.random()))
        old = self._patiently(0)
        began = self._own_death(old)
        if began is None:
            began = time.monotonic()
            self._end(old)
        self._patiently(old)
        self.times.append((began, time.monotonic()))

    def _own_death(self, pid: int) -> float | None:
        """Wait until a daemon dies by itself; None where it doesn't."""
        deadline = time.monotonic() + OWN_DEATH_SECONDS
        while self.deaths is not None and time.monotonic() < deadline:
            if self.deaths.exists():
                for line in self.deaths.read_text().splitlines():
                    at, who, _ = line.split()
                    if int(who) == pid:
                        self.own_deaths += 1
                        return float(at)
            time.sleep(0.002)
        return None

    def _end(self, pid: int) -> None:
        if self.command is None:
            self._kill(pid)
        else:
            self._run(self.command.replace("{mount}", shlex.quote(str(self.mount))))

    def _kill(self, pid: int) -> None:
        if self.chance.random() < self.others:
            self._kill_another(pid)
        if self.chance.random() < self.stopped:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.chance.random() * 0.03)
        os.kill(pid, signal.SIGKILL)

    def _kill_another(self, daemon: int) -> None:
        for pid in children(parent(daemon)):
            if pid != daemon:
                os.kill(pid, signal.SIGKILL)
                self.others_killed += 1
                return

    def _run(self, command: str) -> None:
        done = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise GivenUpError(f"{command}: status {done.returncode}, {done.stderr}")

    def _patiently(self, old: int) -> int:
        """The daemon's pid once it is another than `old`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                pid = self.pid()
                if pid != old:
                    return pid
            except (OSError, ValueError, KeyError) as error:
                if time.monotonic() > deadline:
                    raise GivenUpError(f"no daemon answers: {error!r}") from None
            if time.monotonic() > deadline:
                raise GivenUpError(f"the daemon {old} was not replaced")
            time.sleep(0.002)
