# SPDX-License-Identifier: MIT
"""Capabilities of a process (capabilities(7)): its sets, the bounding set and the ambient set.

Knows capget(2), capset(2) and prctl(2); never users.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from ccfs.linux.libc import check, libc, prctl

NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "IPC_LOCK": 14,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
}
"""The capabilities that any part needs, with their numbers (linux/capability.h)."""
KEPT_BY_CCFSD = [
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "DAC_OVERRIDE",
    "CHOWN",
    "FOWNER",
    "SYS_RESOURCE",
    "SYS_PTRACE",
]
KEPT_BY_FORK_SERVER = ["SETUID", "SETGID"]
KEPT_BY_MOUNT_CCFS = [
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "DAC_OVERRIDE",
    "SYS_RESOURCE",
]
"""What each process keeps after its start; docs/admin/security.md has the reasons."""

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * 6
"""Effective, permitted and inheritable, 32 bits each, of capabilities 0-31, then of 32-63."""


def drop_all_but(names: Iterable[str]) -> None:
    """Drop all capabilities but these (NUMBERS), for programs started from here, too.

    The process gets none that it doesn't have.  Raises OSError.
    """
    held = _permitted()
    kept = {name for name in names if held >> NUMBERS[name] & 1}
    numbers = {NUMBERS[name] for name in kept}
    if held >> NUMBERS["SETPCAP"] & 1:
        for capability in bounding_set():
            if capability not in numbers:
                prctl(_PR_CAPBSET_DROP, capability)
    clear_ambient()
    set_held(kept)


def has(name: str) -> bool:
    """True if a capability is effective in this process: uid 0 may lack it."""
    low, high = _read()[0], _read()[3]
    return bool((low | high << 32) >> NUMBERS[name] & 1)


def set_held(names: Iterable[str]) -> None:
    """Make these the effective and permitted capabilities, and no others.  Raises OSError."""
    mask = sum(1 << NUMBERS[name] for name in names)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    check(libc.capset(_Header(_VERSION_3, 0), _Sets(low, low, 0, high, high, 0)))


def held_any() -> bool:
    """True if any of the process's sets has any capability.  Raises OSError."""
    return any(_read())


def bounding_set() -> list[int]:
    """Return the capabilities that are in the bounding set."""
    return [c for c in range(64) if libc.prctl(_PR_CAPBSET_READ, c, 0, 0, 0) == 1]


def empty_bounding_set() -> None:
    """Empty the bounding set: no program executed from here gets a capability.  Raises OSError."""
    for capability in bounding_set():
        prctl(_PR_CAPBSET_DROP, capability)


def clear_ambient() -> None:
    """Clear the ambient set, which an executed program would get.  Raises OSError."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def _permitted() -> int:
    sets = _read()
    return sets[1] | sets[4] << 32


def _read() -> list[int]:
    sets = _Sets()
    check(libc.capget(_Header(_VERSION_3, 0), sets))
    return list(sets)
