# SPDX-License-Identifier: MIT
"""Runs a client program in a clean environment, within a bound, and keeps what it printed.

This file knows processes and text, never ccache bytes. `transcript` is what two places are
compared by: paths, times and random names are levelled, nothing else is.
"""

import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ccache_tree import CcacheTree

SECONDS = 30

_LEVELLED = (
    # "11/21/26 21:44:22" (MIT), "Nov 21 21:44:22 2026" (Heimdal), and its short "Nov 21 21:44:22"
    (re.compile(r"\d\d/\d\d/\d{2,4} \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \d{4})?"), "TIME"),
    (re.compile(r"\btkt[A-Za-z0-9]{6}\b"), "tktXXXXXX"),
    # a ticket holds a start time only if it starts in another second than its user logged in
    (re.compile(r"Start time: .*\n"), ""),
    (re.compile(r"Ticket length: \d+"), "Ticket length: N"),
    # columns are as wide as the place's path needs
    (re.compile(r" {2,}"), "  "),
)


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended and what it printed."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a scenario, the status it must end with and what must stand in its output.

    `{place}` in an argument is replaced by the place's path. A status of None is any; it still
    stands in the transcript.
    """

    argv: tuple[str, ...]
    status: int | None = 0
    prints: tuple[str, ...] = ()
    stdin: str = ""


def step(*argv: str, status: int | None = 0, prints: Iterable[str] = (), stdin: str = "") -> Step:
    """Write a Step as one writes a command."""
    return Step(argv, status, tuple(prints), stdin)


def run(
    argv: Sequence[str | Path],
    environment: dict[str, str],
    *,
    stdin: str = "",
    status: int | None = 0,
    seconds: float = SECONDS,
) -> Output:
    """Run `argv`; fail unless it ends within `seconds` with `status` (None: with any).

    It runs in the environment's HOME, so that what it drops there (a core) goes with that.
    """
    done = subprocess.run(
        [str(argument) for argument in argv],
        env=environment,
        cwd=environment["HOME"],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=seconds,
        check=False,
    )
    output = Output(done.returncode, done.stdout, done.stderr)
    assert status in (None, output.status), f"{argv}: {output}"
    return output


def transcript(
    place: CcacheTree,
    environment: dict[str, str],
    steps: Iterable[Step],
    level: Callable[[Sequence[str], str], str] = lambda _, text: text,
) -> str:
    """Run the steps in `place` and return all that they printed, levelled.

    `level` takes a command and its text and brings into order what the client prints in the
    order of a directory.
    """
    lines: list[str] = []
    for each in steps:
        argv = [argument.format(place=place.path) for argument in each.argv]
        output = run(argv, environment, stdin=each.stdin, status=None)
        text = levelled(place, output.stdout + output.stderr)
        command = f"$ {' '.join(each.argv)}"
        assert each.status in (None, output.status), f"{command}: status {output.status}\n{text}"
        for wanted in each.prints:
            assert wanted in text, f"{command}: no {wanted!r} in\n{text}"
        lines += [command, f"status {output.status}", level(each.argv, text)]
    return "\n".join(lines)


def levelled(place: CcacheTree, text: str) -> str:
    """`text` without what differs from place to place and from run to run."""
    text = text.replace(str(place.path), "PLACE")
    for pattern, replacement in _LEVELLED:
        text = pattern.sub(replacement, text)
    return text
