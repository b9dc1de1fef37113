# SPDX-License-Identifier: MIT
"""Processes that this program forks, each with a log, and their end within a bound.

Knows processes, never what they do.  A process that hangs in the mount is left to the end of the
mount, and counted.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

END_SECONDS = 40.0
KILL_SECONDS = 2.0
"""Seconds for the end of a killed process: one that waits for a stopped daemon has none."""


@dataclass
class Processes:
    """The forked processes: process ids by the name of their log."""

    pids: dict[str, int] = field(default_factory=dict)
    hung: list[str] = field(default_factory=list)
    enter: Callable[[], None] = lambda: None
    """What makes a process a client of the mount."""

    def fork(self, name: str, work: Callable[[], None], nice: int = 0) -> None:
        """Do `work` in a process of its own, in a session of its own."""
        pid = os.fork()
        if pid == 0:
            _be(self.enter, work, nice)
        self.pids[name] = pid

    def end(self, *names: str, seconds: float = END_SECONDS) -> None:
        """Ask these to end (SIGTERM), wait for them, and kill those that don't end."""
        chosen = [name for name in names if name in self.pids]
        for name in chosen:
            _signal(self.pids[name], signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for name in chosen:
            if not _ended(self.pids[name], deadline):
                self.hung.append(name)
            self._kill(name)

    def end_all(self) -> None:
        """Kill whatever is left."""
        for name in list(self.pids):
            self._kill(name)

    def _kill(self, name: str) -> None:
        pid = self.pids.pop(name)
        _kill_session(pid)
        _ended(pid, time.monotonic() + KILL_SECONDS)


def _be(enter: Callable[[], None], work: Callable[[], None], nice: int) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.nice(nice)
        enter()
        work()
    finally:
        os._exit(0)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_session(leader: int) -> None:
    """Kill the process and what it has started, which is all in its session (proc(5), stat)."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{int(entry)}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[3]) == leader:
                os.kill(int(entry), signal.SIGKILL)


def _ended(pid: int, deadline: float) -> bool:
    while True:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
                continue
        return True


class Ending:
    """True once SIGTERM has come."""

    def __init__(self) -> None:
        self._wanted = False
        signal.signal(signal.SIGTERM, self._want)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _want(self, *_: object) -> None:
        self._wanted = True

    def __call__(self) -> bool:
        return self._wanted
