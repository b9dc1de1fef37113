"""Becoming a user for good: groups, ids, capabilities, and what could bring them back.

Knows credentials(7) and capabilities(7); never what the process does as that user.

A process has the user's file-system uid, by which the kernel judges what it does with files, and in
its other uids that of the service (`service_uid`).  kill(2), prlimit(2), setpriority(2),
sched_setscheduler(2), sched_setaffinity(2) and ptrace(2) look at those: a user can't signal, limit
or slow down the daemon that serves their mount, for which others may have to wait.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from ccfs.errors import Exit, UserError
from ccfs.linux.fsuid import filesystem_uid, set_filesystem_uid

PR_SET_KEEPCAPS = 8
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
UNLIMITED = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_NPROC,  # counted for the service's uid, that is for all daemons
    resource.RLIMIT_RSS,
    15,  # RLIMIT_RTTIME
)
LEAST = {resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_STACK: 8 << 20}
RLIMIT_NICE = 13
NICE_0 = 20
"""The limit that allows a nice value of 0 (getrlimit(2))."""
MOST_CORES = 8192
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_SET_TIMERSLACK = 29
IOPRIO_WHO_PROCESS = 1
KEYCTL_JOIN_SESSION_KEYRING = 1
SYS_IOPRIO_SET, SYS_SET_MEMPOLICY, SYS_KEYCTL = {
    "x86_64": (251, 238, 250),
    "aarch64": (30, 237, 219),
    "riscv64": (30, 237, 219),
    "ppc64le": (273, 261, 271),
    "s390x": (282, 270, 280),
}.get(os.uname().machine, (-1, -1, -1))
"""Numbers of system calls; -1 answers ENOSYS."""

SERVICE = b"ccfs"
LAST_SYSTEM_UID = 999
FALLBACKS = range(65533, 65519, -1)
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
}
"""Those that any part needs, by their numbers (linux/capability.h)."""
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
KEPT_BY_NURSERY = ["SETUID", "SETGID"]
KEPT_BY_MOUNT_CCFS = [
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "DAC_OVERRIDE",
    "SYS_RESOURCE",
]
"""What each may after its start; docs/admin/security.md says why."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * _SETS_OF_BOTH_HALVES


class PrivilegeError(UserError):
    """The process could not let go of all its privileges, and must not go on."""

    default_status = Exit.PERMISSION


def drop(uid: int, gid: int) -> None:
    """Have a user's rights at files, in one group, with no capability, and see that it is for good.

    Real, effective and saved uid are the service's.  Raises PrivilegeError; the process must end
    then.  Works for uid 0, too, which is left without any capability.
    """
    try:
        service = service_uid()
        if service == uid:
            raise PrivilegeError(f"uid {uid} is the one of the daemons themselves")
        _drop(uid, gid, service)
    except OSError as error:
        raise PrivilegeError(f"cannot become uid {uid}: {_strerror(error)}") from None
    if not _is_only(uid, gid, service):
        raise PrivilegeError(f"cannot become uid {uid} for good")


def service_uid(users_file: str = "/etc/passwd") -> int:
    """The uid that daemons have beside their user's, which is no one's who can log in.

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


def reset_limits() -> None:
    """Have no limit that can end or hinder a daemon, whatever the parent had (setrlimit(2)).

    Where root may not raise the hard limits (CAP_SYS_RESOURCE) those of the parent stay.
    """
    infinite = resource.RLIM_INFINITY
    for number in UNLIMITED:
        try:
            resource.setrlimit(number, (infinite, infinite))
        except (ValueError, OSError):
            hard = resource.getrlimit(number)[1]
            resource.setrlimit(number, (hard, hard))
    for number, least in LEAST.items():
        soft, hard = resource.getrlimit(number)
        with suppress(ValueError, OSError):
            resource.setrlimit(number, (_at_least(soft, least), _at_least(hard, least)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _at_least(limit: int, least: int) -> int:
    return limit if limit == resource.RLIM_INFINITY else max(limit, least)


def reset_scheduling() -> None:
    """Run as an ordinary process, on every core, whatever the parent was limited to.

    Nice value, scheduling policy, affinity, I/O priority, memory policy, timer slack, and what the
    kernel ends first where memory is short (oom_score_adj).
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError, ValueError):
        resource.setrlimit(RLIMIT_NICE, (NICE_0, NICE_0))  # in place of CAP_SYS_NICE
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    resource.setrlimit(RLIMIT_NICE, (0, 0))
    with suppress(OSError):
        os.sched_setaffinity(0, range(MOST_CORES))
    for arguments in ((SYS_IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, 0), (SYS_SET_MEMPOLICY, 0, 0, 0)):
        _libc.syscall(*(ctypes.c_long(one) for one in arguments))
    _libc.prctl(PR_SET_TIMERSLACK, 50_000, 0, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0")


def reset_process() -> None:
    """No timer, no signal at the parent's death, no personality (setarch(8)), no securebits."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    _libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    _libc.prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)
    _libc.personality(ctypes.c_ulong(0))


def new_session_keyring() -> None:
    """Have an empty session keyring: root's own would go with the process (keyrings(7)).

    A kernel without keyrings has none to inherit.  Raises OSError.
    """
    numbers = (SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
    if _libc.syscall(*(ctypes.c_long(one) for one in numbers)) < 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))


def reset_signals() -> None:
    """The default disposition of every signal, and none blocked (signal(7))."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


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


def keep_only(names: Iterable[str]) -> None:
    """Let go of all capabilities but these (CAPABILITIES), for programs started from here, too.

    Those that the process hasn't now it doesn't get.  Raises OSError.
    """
    had = _capabilities()
    permitted = had[1] | had[4] << 32
    kept = {name for name in names if permitted >> CAPABILITIES[name] & 1}
    numbers = {CAPABILITIES[name] for name in kept}
    if permitted >> CAPABILITIES["SETPCAP"] & 1:
        for capability in _known_capabilities():
            if capability not in numbers:
                _prctl(PR_CAPBSET_DROP, capability)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(kept)


def _drop(uid: int, gid: int, service: int) -> None:
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups([gid])
    empty_bounding_set()
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    os.setresgid(gid, gid, gid)
    _prctl(PR_SET_KEEPCAPS, 1)  # setresuid(2) sets the file-system uid, too: that comes afterwards
    os.setresuid(service, service, service)
    _set_capabilities({"SETUID"})
    set_filesystem_uid(uid)
    _set_capabilities(set())
    _prctl(PR_SET_KEEPCAPS, 0)


def _known_capabilities() -> list[int]:
    """Those that this kernel has and that are still in the bounding set."""
    return [c for c in range(64) if _libc.prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1]


def _set_capabilities(names: set[str]) -> None:
    """Have these capabilities, of those that are permitted, and no others.  Raises OSError."""
    mask = sum(1 << CAPABILITIES[name] for name in names)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    if _libc.capset(_Header(_CAPABILITY_VERSION_3, 0), _Sets(low, low, 0, high, high, 0)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _is_only(uid: int, gid: int, service: int) -> bool:
    """Whether the process has that user's and group's rights alone, and can't get others again."""
    return (
        os.getresuid() == (service, service, service)
        and filesystem_uid() == uid
        and os.getresgid() == (gid, gid, gid)
        and os.getgroups() in ([gid], [])
        and not _known_capabilities()
        and not any(_capabilities())
        and _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
        and not _can_be_root()
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
