"""Becoming a user for good: groups, ids, capabilities, and what could bring them back.

Knows credentials(7) and capabilities(7); never what the process does as that user.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress

from ccfs.errors import Exit, UserError

PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SETS_OF_BOTH_HALVES = 6
"""Effective, permitted and inheritable, 32 bits each, of capabilities 0-31 and 32-63."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * _SETS_OF_BOTH_HALVES


class PrivilegeError(UserError):
    """The process could not let go of all its privileges, and must not go on."""

    default_status = Exit.PERMISSION


def drop(uid: int, gid: int) -> None:
    """Become a user, in one group, with no capability, and see that there is no way back.

    Raises PrivilegeError; whoever gets that must end.  Works for uid 0, too, which is left without
    any capability.
    """
    try:
        _drop(uid, gid)
    except OSError as error:
        raise PrivilegeError(f"cannot become uid {uid}: {_strerror(error)}") from None
    if not _is_only(uid, gid):
        raise PrivilegeError(f"cannot become uid {uid} for good")


def raise_limits() -> None:
    """Let the process lock its memory, and leave no core file.

    Root may not raise a limit everywhere (CAP_SYS_RESOURCE): the daemon says so then.
    """
    infinite = resource.RLIM_INFINITY
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (infinite, infinite))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reset_signals() -> None:
    """The default disposition of every signal, and none blocked (signal(7))."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor from 3 on that is not to be kept."""
    low = 3
    for descriptor in sorted(number for number in kept if number >= low):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def set_name(name: str) -> None:
    """What `ps` calls the process: 15 bytes at most (prctl(2))."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def forget_environment() -> None:
    """Leave no variable, nor in the memory that /proc/PID/environ shows (proc(5))."""
    os.environ.clear()
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[47]), int(fields[48])
    if start and any(ctypes.string_at(start, end - start)):
        ctypes.memset(start, 0, end - start)


def empty_bounding_set() -> None:
    """No program that is started from here gets a capability.  Raises OSError."""
    for capability in _known_capabilities():
        _prctl(PR_CAPBSET_DROP, capability)


def _drop(uid: int, gid: int) -> None:
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups([gid])
    empty_bounding_set()
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if _libc.capset(_Header(_CAPABILITY_VERSION_3, 0), _Sets()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _known_capabilities() -> list[int]:
    """Those that this kernel has and that are still in the bounding set."""
    return [c for c in range(64) if _libc.prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1]


def _is_only(uid: int, gid: int) -> bool:
    """Whether the process is that user and group alone, and can't be anybody else again."""
    return (
        os.getresuid() == (uid, uid, uid)
        and os.getresgid() == (gid, gid, gid)
        and os.getgroups() in ([gid], [])
        and not _known_capabilities()
        and not any(_capabilities())
        and _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
        and (uid == 0 or not _can_be_root())
    )


def _capabilities() -> list[int]:
    sets = _Sets()
    if _libc.capget(_Header(_CAPABILITY_VERSION_3, 0), sets) != 0:
        raise PrivilegeError("cannot see the capabilities of the process")
    return list(sets)


def _can_be_root() -> bool:
    for attempt in (os.setuid, os.seteuid):
        try:
            attempt(0)
        except OSError:
            continue
        return True
    return False


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
