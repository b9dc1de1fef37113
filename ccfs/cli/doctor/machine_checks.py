"""Checks of the machine: what a mount needs of it, and what it might do with secrets.

Knows devices, limits, swap and sockets; never a mount.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ccfs.cli.doctor import krb5_conf
from ccfs.cli.doctor.finding import Finding
from ccfs.linux.socket_listener import listener_pid
from ccfs.mounting import mountpoint

KCM_SOCKET = "/var/run/.heim_org.h5l.kcm-socket"
OLDEST_KERNEL = (5, 10)
"""What Debian 11 has; older ones were never tried."""
FEWEST_FILES = 256
OWN_PROGRAMS = {"ccfs", "ccfsd", "ccfs.ccfsd"}
OWN_WORDS = 3
"""Where they stand in a command line: behind an interpreter and `-m`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as one user sees it; the paths are where such things are.

    `kcm`: the socket where KCM: is looked for; `ccname`: the ccache of programs without KRB5CCNAME,
    "" where krb5.conf names none.
    """

    environment: Mapping[str, str]
    uid: int
    device: str = mountpoint.FUSE_DEVICE
    swaps: str = "/proc/swaps"
    blocks: str = "/sys/class/block"
    kcm: str = KCM_SOCKET
    ccname: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], uid: int) -> Machine:
        """What the caller sees, by the environment and krb5.conf."""
        socket = krb5_conf.libdefault("kcm_socket", environment) or KCM_SOCKET
        ccname = krb5_conf.libdefault("default_ccache_name", environment)
        return cls(environment, uid, kcm=socket, ccname=ccname)

    @property
    def residual(self) -> str:
        """The ccache that programs use here; "" where nothing names one."""
        return self.environment.get("KRB5CCNAME") or self.ccname

    def program(self, name: str) -> str | None:
        """The path of a program, None where the user has none of that name."""
        return shutil.which(name, path=self.environment.get("PATH", os.defpath))


def check(here: Machine) -> Iterator[Finding]:
    """A finding of each check."""
    for one in CHECKS:
        yield one(here)


def fuse_device(here: Machine) -> Finding:
    """The user can open the FUSE device."""
    name = "fuse-device"
    try:
        status = os.stat(here.device)
    except OSError:
        hint = "'modprobe fuse'; give it to a container with '--device /dev/fuse'"
        return Finding(name, f"there is no {here.device}", hint)
    said = f"{here.device} has mode {stat.S_IMODE(status.st_mode):04o}"
    if not mountpoint.is_fuse_device(status):
        return Finding(name, f"{here.device} is not the FUSE device", mountpoint.WRONG_DEVICE)
    if not _may_use(status, here.uid):
        return Finding(name, f"{said}, uid {here.uid} may not open it", "as root: 'chmod 666' it")
    return Finding(name, said)


def _may_use(status: os.stat_result, uid: int) -> bool:
    """Whether the mode bits let a user read and write."""
    if uid in (0, status.st_uid):
        return uid == 0 or bool(status.st_mode & 0o600 == 0o600)
    mine = status.st_gid in (os.getegid(), *os.getgroups())
    return status.st_mode & (0o060 if mine else 0o006) in (0o060, 0o006)


def fusermount(here: Machine) -> Finding:
    """There is a fusermount3, and it has the rights to mount."""
    found = here.program("fusermount3")
    if here.uid == 0:
        return Finding("fusermount3", "not needed by root")
    if found is None:
        return Finding("fusermount3", "there is no fusermount3", "as root: 'apt install fuse3'")
    status = os.stat(found)
    if status.st_uid != 0 or not status.st_mode & stat.S_ISUID:
        return Finding("fusermount3", f"{found} is not setuid root", "reinstall the package fuse3")
    return Finding("fusermount3", found)


def kernel(_: Machine) -> Finding:
    """The kernel is not too old."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_KERNEL:
        return Finding("kernel", f"Linux {release} was never tried", "use 5.10 or newer")
    return Finding("kernel", f"Linux {release}")


def open_files(_: Machine) -> Finding:
    """A process may have enough files open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        return Finding("open-files", f"the limit is {soft}", f"'ulimit -n {FEWEST_FILES}' or more")
    return Finding("open-files", f"the limit is {_limit(soft)}")


def memlock(here: Machine) -> Finding:
    """The daemon may lock its memory, or there is nowhere that it could be swapped to."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    said = f"the limit is {_limit(hard)}"
    if here.uid == 0 or hard == resource.RLIM_INFINITY:
        return Finding("memlock", said)
    if not bare_swaps(here):
        return Finding("memlock", f"{said}: no memory is locked, and none can be swapped to a disk")
    hint = "raise it to unlimited ('memlock' in limits.conf, or LimitMEMLOCK=infinity)"
    return Finding("memlock", f"{said}, so the daemon's memory may be swapped out", hint)


def swap(here: Machine) -> Finding:
    """What is swapped out is readable by nobody later: the journal's tmpfs can't be locked."""
    bare = bare_swaps(here)
    if not bare:
        return Finding("swap", "none on a disk that is not encrypted")
    hint = "'swapoff' it, encrypt it, or use zram"
    return Finding("swap", f"{', '.join(bare)} may get the journal, which is in a tmpfs", hint)


def bare_swaps(here: Machine) -> list[str]:
    """The swap areas that keep what they get: neither in memory (zram) nor encrypted."""
    try:
        with open(here.swaps, encoding="utf-8", errors="surrogateescape") as file:
            areas = [line.split()[0] for line in file.readlines()[1:] if line.strip()]
    except OSError:
        return []
    return [area for area in areas if not _keeps_nothing(area, here.blocks)]


def _keeps_nothing(area: str, blocks: str) -> bool:
    device = os.path.basename(os.path.realpath(area))
    if device.startswith("zram"):
        return True
    with suppress(OSError), open(f"{blocks}/{device}/dm/uuid", encoding="ascii") as file:
        return file.read().startswith("CRYPT-")
    return False


def kcm_server(here: Machine) -> Finding:
    """No other credential server takes what programs store; where KCM: is used, there is one."""
    pid = listener_pid(here.kcm)
    if pid is None and here.residual.startswith("KCM:"):
        hint = f"start ccfsd, or 'ccfs mount --kcm-socket {here.kcm}' (docs/admin/kcm.md)"
        return Finding("kcm", f"programs use {here.residual}, and nobody is at {here.kcm}", hint)
    if pid is None:
        return Finding("kcm", f"no KCM server is at {here.kcm}")
    said = f"process {pid} serves KCM: ccaches at {here.kcm}"
    name, ours = _program(pid)
    if ours is None:
        why = f"{name} listens for a unit" if name else "it is not to be seen from here"
        return Finding("kcm", f"{said}; whether it is ccfs can't be told: {why}", unknown=True)
    if ours:
        return Finding("kcm", f"{said}: {name}")
    hint = "stop it (docs/admin/kcm.md), or see that KRB5CCNAME is set wherever tickets are used"
    return Finding("kcm", f"{said}: {name}" if name else said, hint)


def serves_kcm(here: Machine) -> bool | None:
    """Whether `KCM:` is ccfs here; None where that can't be told."""
    pid = listener_pid(here.kcm)
    return False if pid is None else _program(pid)[1]


def _program(pid: int) -> tuple[str, bool | None]:
    """What a process is called, "" where that can't be told; whether it is a part of ccfs.

    None where that can't be told: /proc hides the process (hidepid=), it is of another pid
    namespace (0), or it is systemd, which listens for a service that it starts later.
    """
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")[:OWN_WORDS]
    except OSError:
        return "", None
    if pid == 1 and name == "systemd":
        return name, None
    own = [os.path.basename(word) for word in words if os.path.basename(word) in OWN_PROGRAMS]
    return (own[0].partition(".")[2] or own[0], True) if own else (name, False)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    fuse_device,
    fusermount,
    kernel,
    open_files,
    memlock,
    swap,
    kcm_server,
)
