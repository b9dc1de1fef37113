"""`ccfs doctor`: what is wrong with the machine or with a mount, and what to do about it.

Knows which checks there are and how to say what they found; never how a mount serves.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator

from ccfs.cli import mountpoint_argument, output
from ccfs.cli.doctor import ccfsd, machine, mount
from ccfs.cli.doctor.finding import Finding
from ccfs.errors import Exit, UsageError


def run(arguments: Namespace) -> int:
    """Print a line for each check; FINDINGS unless all is well."""
    found = settled([*_findings(arguments.mountpoint)])
    if arguments.json:
        _print_json(found)
    else:
        print(output.table([_row(one) for one in found]), end="")
    return Exit.OK if all(one.ok for one in found) else Exit.FINDINGS


def _findings(given: str | None) -> Iterator[Finding]:
    here = machine.Machine.of(os.environ, os.geteuid())
    yield from machine.check(here)
    yield from ccfsd.check()
    if given is None and here.uid == 0 and not _has_mount():
        yield Finding("mount", "root has no mount, and needs none")
        return
    try:
        path = mountpoint_argument.of(given)
    except UsageError as error:
        yield Finding("mount", error.reason, error.hint)
        return
    yield from mount.check(path, here, time.time())


def settled(found: list[Finding]) -> list[Finding]:
    """The findings, without a fault of the limit `memlock` where the daemon's memory is locked."""
    if not any(one.check == "locked" and one.ok for one in found):
        return found
    return [
        Finding(one.check, f"{one.what.partition(',')[0]}; the daemon needs no more")
        if one.check == "memlock" and not one.ok
        else one
        for one in found
    ]


def _has_mount() -> bool:
    try:
        return mountpoint_argument.is_mounted(mountpoint_argument.of(None))
    except UsageError:
        return False


def _row(found: Finding) -> list[str]:
    said = found.what if found.ok else f"{found.what}: {found.hint}"
    state = "unknown" if found.unknown else "ok" if found.ok else "WRONG"
    return [state, found.check, said]


def _print_json(found: list[Finding]) -> None:
    import json

    rows = [
        {"check": f.check, "ok": f.ok, "what": f.what, "hint": f.hint, "unknown": f.unknown}
        for f in found
    ]
    print(json.dumps(rows, indent=2))
