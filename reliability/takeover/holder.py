# SPDX-License-Identifier: MIT
"""A process that holds things open in the mount while daemons are killed, and looks at each later.

Knows when to prepare and when to check; what is held is in held.py and parked.py.  Each check has a
bound, and what never comes back is in the log as asked and not answered.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from reliability.takeover import log
from reliability.takeover.log import Log

SECONDS = 15
ALIVE, DEAD = "alive", "dead"


class Held(Protocol):
    """Something held open from the moment that it is made."""

    def check(self) -> None:
        """Look at it after the kills; any exception says that it is dead."""

    def close(self) -> None:
        """Let go of it."""


Maker = Callable[[Path], Held]


@dataclass
class Holder:
    """The main program's side: tells the process to check, and hears when it is done."""

    reader: int
    writer: int
    names: list[str] = field(default_factory=list)

    def check(self, seconds: float) -> bool:
        """Have everything checked; False where the process does not come to an end."""
        os.write(self.writer, b"c")
        return self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait for one byte of the process: prepared, or checked."""
        os.set_blocking(self.reader, False)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                return os.read(self.reader, 1) == b"."
            except BlockingIOError:
                time.sleep(0.005)
        return False


def pair(names: Iterable[str]) -> tuple[Holder, tuple[int, int]]:
    """The main program's side, and the descriptors of the process."""
    told, writer = os.pipe()
    reader, answer = os.pipe()
    return Holder(reader, writer, list(names)), (told, answer)


def run(makers: dict[str, Maker], mount: Path, written: Log, pipes: tuple[int, int]) -> None:
    """Be the process: make everything, wait to be told, check everything."""
    told, answer = pipes
    made = {name: maker(mount) for name, maker in makers.items()}
    try:
        os.write(answer, b".")
        os.read(told, 1)
        for name, held in made.items():
            written.write(log.HELD, name, *_checked(held))
        os.write(answer, b".")
        written.write(log.DONE)
    finally:
        for held in made.values():
            held.close()


def _checked(held: Held) -> tuple[str, str]:
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        held.check()
    except Exception as error:
        return DEAD, f"{type(error).__name__}: {error}"[:400]
    finally:
        signal.alarm(0)
    return ALIVE, ""


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no end of it within {SECONDS} s")
