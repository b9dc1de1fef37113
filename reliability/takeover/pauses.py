# SPDX-License-Identifier: MIT
"""Two clients in tight loops that write down how long they were left without an answer.

One opens and reads `info` (never cached by the kernel), one asks by KCM on one open connection.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from reliability.takeover import log
from reliability.takeover.log import Entry, Log
from reliability.takeover.processes import Ending
from tests.support import kcm

FILE, KCM = "pause-file", "pause-kcm"
SHORTEST = 0.001
"""Gaps below this are not written down."""
REST = 0.0005
AGAIN = 0.005


def run(ask: Callable[[], object], written: Log) -> None:
    """Ask until SIGTERM; a gap lasts from one answer to the next."""
    ended, last = Ending(), time.monotonic()
    while not ended():
        try:
            ask()
        except (OSError, EOFError, kcm.RefusedError) as error:
            written.error("ask", error)
            time.sleep(AGAIN)
            continue
        now = time.monotonic()
        if now - last > SHORTEST:
            written.write(log.GAP, last, now - last)
        last = now
        time.sleep(REST)
    written.write(log.DONE)


def file_client(mount: Path) -> Callable[[], object]:
    """Opens and reads a file that the daemon makes anew each time."""
    return (mount / "info").read_bytes


def kcm_client(socket: Path) -> Callable[[], object]:
    """Asks for the default's name on one connection, made anew only after it failed."""
    kept: list[kcm.Client] = []

    def ask() -> object:
        client = kept.pop() if kept else kcm.Client(socket)
        try:
            answer = client.default()
        except BaseException:
            client.close()
            raise
        kept.append(client)
        return answer

    return ask


def longest(entries: Iterable[Entry], who: str, spans: list[tuple[float, float]]) -> list[float]:
    """The longest gap of one client in each span (a kill, and the next one), in seconds."""
    gaps = [entry.what for entry in entries if entry.who == who and entry.kind == log.GAP]
    found = [
        [length for began, length in gaps if began < end and began + length > start]
        for start, end in spans
    ]
    return [max(lengths, default=SHORTEST) for lengths in found]
