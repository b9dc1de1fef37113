# SPDX-License-Identifier: MIT
"""Run all checks and print their results.

Knows which checks there are; never how one works, nor how a mount serves.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator

from ccfs.cli import mountpoint_argument, output
from ccfs.cli.doctor import ccfsd_checks, machine_checks, mount_checks
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine
from ccfs.errors import Exit, UsageError


def run(arguments: Namespace) -> int:
    """Print a line for each check; return FINDINGS if one of them found a fault."""
    findings = drop_memlock_fault([*_findings(arguments.mountpoint)])
    if arguments.json:
        print(json.dumps([_json_row(finding) for finding in findings], indent=2))
    else:
        print(output.table([_row(finding) for finding in findings]), end="")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.FINDINGS


def _findings(argument: str | None) -> Iterator[Finding]:
    machine = Machine.of(os.environ, os.geteuid())
    yield from machine_checks.check(machine)
    yield from ccfsd_checks.check()
    if argument is None and machine.uid == 0 and not _has_mount():
        yield Finding("mount", "root has no mount, and needs none")
        return
    try:
        path = mountpoint_argument.resolve(argument)
    except UsageError as error:
        yield Finding("mount", error.reason, error.hint)
        return
    yield from mount_checks.check(path, machine, time.time())


def drop_memlock_fault(findings: list[Finding]) -> list[Finding]:
    """Return the findings without a fault of `memlock` if the daemon's memory is locked already."""
    if not any(finding.check == "locked" and finding.ok for finding in findings):
        return findings
    return [
        Finding("memlock", f"{finding.message.partition(',')[0]}; the daemon needs no more")
        if finding.check == "memlock" and not finding.ok
        else finding
        for finding in findings
    ]


def _has_mount() -> bool:
    try:
        return mountpoint_argument.is_mounted(mountpoint_argument.resolve(None))
    except UsageError:
        return False


def _row(finding: Finding) -> list[str]:
    text = finding.message if finding.ok else f"{finding.message}: {finding.hint}"
    state = "unknown" if finding.unknown else "ok" if finding.ok else "WRONG"
    return [state, finding.check, text]


def _json_row(finding: Finding) -> dict[str, str | bool]:
    return {
        "check": finding.check,
        "ok": finding.ok,
        "what": finding.message,
        "hint": finding.hint,
        "unknown": finding.unknown,
    }
