"""`ccfs doctor`: what is wrong with the machine or with a mount, and what to do about it.

Knows which checks there are and how to say what they found; never how a mount serves.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator

from ccfs.cli import checkmount, machine, output, place
from ccfs.cli.finding import Finding
from ccfs.errors import Exit, UsageError


def run(arguments: Namespace) -> int:
    """Print a line for each check; FINDINGS unless all is well."""
    found = [*_findings(arguments.mountpoint)]
    if arguments.json:
        _print_json(found)
    else:
        print(output.table([_row(one) for one in found]), end="")
    return Exit.OK if all(one.ok for one in found) else Exit.FINDINGS


def _findings(given: str | None) -> Iterator[Finding]:
    here = machine.Machine.of(os.environ, os.geteuid())
    yield from machine.check(here)
    try:
        path = place.of(given)
    except UsageError as error:
        yield Finding("mount", error.reason, error.hint)
        return
    yield from checkmount.check(path, here, time.time())


def _row(found: Finding) -> list[str]:
    said = found.what if found.ok else f"{found.what}: {found.hint}"
    return ["ok" if found.ok else "WRONG", found.check, said]


def _print_json(found: list[Finding]) -> None:
    import json

    rows = [{"check": f.check, "ok": f.ok, "what": f.what, "hint": f.hint} for f in found]
    print(json.dumps(rows, indent=2))
