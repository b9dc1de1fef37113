# SPDX-License-Identifier: MIT
"""Becoming a user for good: groups, uids, capabilities, and what could bring root back.

A process has the user's file-system uid, by which the kernel judges what it does with files, and in
its other uids that of the service (`service_uid`).  kill(2), prlimit(2), setpriority(2),
sched_setscheduler(2), sched_setaffinity(2) and ptrace(2) look at those: a user can't signal, limit
or slow down the daemon that serves their mount, for which others may have to wait.

Knows credentials(7) and capabilities(7); never what the process does as that user.
"""

from __future__ import annotations

import errno
import os
from collections import Counter

from ccfs.errors import Exit, UserError
from ccfs.linux import capabilities
from ccfs.linux.fsuid import filesystem_uid, set_filesystem_uid
from ccfs.linux.libc import libc, prctl

PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

SERVICE = b"ccfs"
LAST_SYSTEM_UID = 999
FALLBACKS = range(65533, 65519, -1)


class PrivilegeError(UserError):
    """The process could not drop all its privileges, and must not go on."""

    default_status = Exit.PERMISSION


def drop(uid: int, gid: int) -> None:
    """Take a user's rights at files, in one group, with no capability, and check that it is final.

    Real, effective and saved uid become the service's.  Raises PrivilegeError; the process must end
    then.  Works for uid 0, too, which is left without any capability.
    """
    try:
        service = service_uid()
        if service == uid:
            raise PrivilegeError(f"uid {uid} is the one of the daemons themselves")
        _drop(uid, gid, service)
        is_final = _is_only(uid, gid, service)
    except OSError as error:
        raise PrivilegeError(f"cannot become uid {uid}: {_strerror(error)}") from None
    if not is_final:
        raise PrivilegeError(f"cannot become uid {uid} for good")


def service_uid(users_file: str = "/etc/passwd") -> int:
    """Return the uid that daemons have beside their user's; no user who can log in has it.

    That of the system user `ccfs` (uid 1 to 999, no login shell, no other name for it) where there
    is one.  Else the first of FALLBACKS that has no name: Debian reserves these and systemd leaves
    them unused, so that neither gives them to a user, a service or a container.  No name service is
    asked, since one may not answer.  Raises OSError.
    """
    with open(users_file, "rb") as file:
        entries = [line.rstrip(b"\n").split(b":") for line in file]
    users = [entry for entry in entries if len(entry) == 7 and entry[2].isdigit()]
    taken = Counter(int(entry[2]) for entry in users)
    for name, _, number, *_, shell in users:
        is_system = 0 < int(number) <= LAST_SYSTEM_UID and shell.endswith((b"/nologin", b"/false"))
        if name == SERVICE and is_system and taken[int(number)] == 1:
            return int(number)
    free = [uid for uid in FALLBACKS if uid not in taken]
    if not free:
        raise OSError(errno.ENOENT, "there is no system user ccfs")
    return free[0]


def _drop(uid: int, gid: int, service: int) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups([gid])
    capabilities.empty_bounding_set()
    capabilities.clear_ambient()
    os.setresgid(gid, gid, gid)
    prctl(PR_SET_KEEPCAPS, 1)  # setresuid(2) sets the file-system uid, too: that comes afterwards
    os.setresuid(service, service, service)
    capabilities.set_held({"SETUID"})
    set_filesystem_uid(uid)
    capabilities.set_held(set())
    prctl(PR_SET_KEEPCAPS, 0)


def _is_only(uid: int, gid: int, service: int) -> bool:
    """True if the process has that user's and group's rights alone, and can't get others again."""
    return (
        os.getresuid() == (service, service, service)
        and filesystem_uid() == uid
        and os.getresgid() == (gid, gid, gid)
        and os.getgroups() in ([gid], [])
        and not capabilities.bounding_set()
        and not capabilities.held_any()
        and libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
        and not _can_be_root()
    )


def _can_be_root() -> bool:
    for attempt in (os.setuid, os.seteuid):
        try:
            attempt(0)
        except OSError:
            continue
        return True
    return False


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
