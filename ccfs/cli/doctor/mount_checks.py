"""Checks of a mount: whose it is, how it is mounted, how its daemon and its journal are kept.

Knows the mount table, /proc, the `info` files and the environment; never the bytes of a ccache.
Nothing here waits for a daemon without a bound.
"""

from __future__ import annotations

import calendar
import os
import stat
import time
from collections.abc import Iterator

from ccfs.cli import info, list_, mountpoint_argument
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine, bare_swaps, serves_kcm
from ccfs.errors import NotMountedError, UserError
from ccfs.journal import location
from ccfs.linux.mountinfo import Mount
from ccfs.mounting import mountpoint
from ccfs.mounting.mountpoint import State

WANTED = ("nosuid", "nodev", "noexec")
WANTED_WITH_OTHERS = (*WANTED, "default_permissions")
"""Where the kernel lets other users' requests through it must look at modes."""
SKEW = 300
"""Seconds that Kerberos tolerates between two clocks (RFC 4120 section 7.5.1)."""

Values = dict[str, info.Value]


def check(path: str, here: Machine, now: float) -> Iterator[Finding]:
    """A finding of each check that can be made of the mount at `path`."""
    try:
        mount = mountpoint.find(path)
    except NotMountedError as error:
        yield Finding("mount", error.reason, error.hint)
        return
    alive = _state(mount)
    yield alive
    yield owner(mount, here.uid)
    yield options(mount)
    if not alive.ok:
        return
    try:
        said = info.of_mount(mountpoint.ask(path, lambda: mountpoint.read(path, "info")))
        ccaches = [info.of_ccache(one) for one in list_.read_all(path)]
    except UserError as error:
        yield Finding("access", error.reason, error.hint or "ask its owner to run this")
        return
    yield from _within(path, said, [c for c in ccaches if c.get("initialised")], here, now)


def _within(
    path: str, said: Values, ccaches: list[Values], here: Machine, now: float
) -> Iterator[Finding]:
    yield from daemon(said, here)
    yield from journal(str(said.get("journal") or ""), empty=not said.get("bytes"))
    yield krb5ccname(path, here, str(said.get("kcm_socket") or ""))
    yield from ccache_findings(ccaches, now)


def _state(mount: Mount) -> Finding:
    state = mountpoint.look(mount)
    if state is State.ALIVE:
        return Finding("mount", f"the ccfs at {mount.path} answers")
    error = (mountpoint.dead if state is State.DEAD else mountpoint.no_answer)(mount.path)
    return Finding("mount", error.reason, error.hint)


def owner(mount: Mount, uid: int) -> Finding:
    """The mount is the caller's, by the kernel's word."""
    if mount.owner == uid:
        return Finding("owner", f"it belongs to uid {uid}")
    hint = "trust it with nothing unless you know why; 'ccfs mount' elsewhere"
    return Finding("owner", f"it belongs to uid {mount.owner}, you are uid {uid}", hint)


def options(mount: Mount) -> Finding:
    """The mount gives nobody a program, a device or a privilege."""
    wanted = WANTED_WITH_OTHERS if "allow_other" in mount.options else WANTED
    lacking = [option for option in wanted if option not in mount.options]
    if lacking:
        return Finding("options", f"mounted without {','.join(lacking)}", "mount it anew")
    return Finding("options", ",".join(wanted))


def daemon(said: Values, here: Machine) -> Iterator[Finding]:
    """The daemon's memory is its own, and stays in memory."""
    pid = said.get("pid")
    try:
        status = proc_status(f"/proc/{pid}/status")
        owner_of_proc = os.stat(f"/proc/{pid}/mem").st_uid  # /proc/PID itself tells nothing
    except OSError:
        yield Finding("daemon", f"process {pid} is not to be seen from here", unknown=True)
        return
    uid = int(status["Uid"].split()[0])
    if uid and owner_of_proc == uid:
        hint = "mount it anew, and see the log for why"
        yield Finding("dumpable", f"others of uid {uid} can read the memory of {pid}", hint)
    else:
        yield Finding("dumpable", f"process {pid} is undumpable" if uid else "root runs the daemon")
    yield locked(status.get("VmLck", "0 kB"), here)


def locked(amount: str, here: Machine) -> Finding:
    """The daemon's memory is locked, or can't be swapped to anything that keeps it."""
    if int(amount.split()[0]):
        return Finding("locked", "the daemon's memory is locked")
    if not bare_swaps(here):
        return Finding("locked", "the daemon's memory is not locked, and there is no bare swap")
    hint = "raise the limit 'memlock' to unlimited, and mount it anew"
    return Finding("locked", "the daemon's memory may be swapped out", hint)


def proc_status(path: str) -> dict[str, str]:
    """The lines of /proc/PID/status (proc(5))."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        pairs = (line.partition(":") for line in file)
        return {key: value.strip() for key, _, value in pairs}


def journal(path: str, *, empty: bool = False) -> Iterator[Finding]:
    """The journal is the daemon's alone, and in memory.

    `empty`: nothing is in the mount.  One that ccfsd has made has no journal until something is.
    """
    if not path:
        yield Finding("journal", "none: a daemon that dies loses all")
        return
    if empty and not os.path.lexists(path) and os.path.isdir(os.path.dirname(path)):
        yield Finding("journal", f"nothing is to be kept yet in {path}")
        return
    try:
        yield _alone(path)
        yield _in_memory(path)
    except OSError as error:
        hint = "mount it anew: a daemon that dies would lose all"
        yield Finding("journal", f"cannot see {path}: {error.strerror}", hint)


def _alone(path: str) -> Finding:
    file, directory = os.lstat(path), os.lstat(os.path.dirname(path))
    if not stat.S_ISREG(file.st_mode):
        return Finding("journal", f"{path} is no file", "see who put it there, and mount it anew")
    if stat.S_IMODE(file.st_mode) != 0o600 or stat.S_IMODE(directory.st_mode) & 0o077:
        hint = "'chmod 600' the file and 'chmod 700' its directory"
        return Finding("journal", f"others can reach {path}", hint)
    if file.st_uid != directory.st_uid:
        hint = "see who put it there, and mount it anew"
        return Finding("journal", f"{path} belongs to uid {file.st_uid}", hint)
    return Finding("journal", f"{path} is of uid {file.st_uid} alone")


def _in_memory(path: str) -> Finding:
    if location.in_memory(path):
        return Finding("journal-place", "in memory")
    hint = "mount it anew without '--journal-on-disk'"
    return Finding("journal-place", f"{path} is on a disk, where secrets stay", hint)


def krb5ccname(path: str, here: Machine, socket: str = "") -> Finding:
    """The programs of this shell use the mount; `socket`: where it serves KCM clients by itself."""
    name = here.environment.get("KRB5CCNAME", "")
    hint = f"run '{mountpoint_argument.export_line(path)}'"
    if not here.residual:
        return Finding("krb5ccname", "KRB5CCNAME is not set", hint)
    said = f"KRB5CCNAME={name}" if name else f"KRB5CCNAME is not set: krb5.conf's {here.ccname}"
    if here.residual.startswith("KCM:"):
        if serves_kcm(here) is None:
            return Finding("krb5ccname", f"{said}; who serves it can't be told", unknown=True)
        fault = _kcm_fault(here, socket)
        more = "" if fault else ", which ccfs serves"
        if socket and not _same(socket, here.kcm):
            hint += f", or set kcm_socket = {socket} in krb5.conf"
    else:
        fault, more = _fault(path, here.residual), ""
    return Finding("krb5ccname", f"{said}{fault}{more}", hint if fault else "")


def _kcm_fault(here: Machine, socket: str) -> str:
    """What is wrong with a KCM ccache as the one that programs use; "" for nothing."""
    if not serves_kcm(here) or (socket and not _same(socket, here.kcm)):
        return " points elsewhere"
    uid, separator, _ = here.residual.removeprefix("KCM:").partition(":")
    own = uid == str(here.uid) or not (uid or separator)
    return "" if own else f" is no name for uid {here.uid}"


def _same(one: str, other: str) -> bool:
    """Whether two paths lead to the same place."""
    return os.path.realpath(one) == os.path.realpath(other)


def _fault(path: str, name: str) -> str:
    """The same for a ccache that should be in the mount at `path`."""
    file, directory = _places(name)
    if not os.path.realpath(file).startswith(os.path.realpath(path) + "/"):
        return " points elsewhere"
    return "" if os.path.isdir(directory) else " is stale: there is no such place"


def _places(name: str) -> tuple[str, str]:
    """The file or directory of a FILE or DIR ccache's name, and the directory it needs.

    `DIR:DIRECTORY` is a collection, `DIR::FILE` one ccache of it.
    """
    kind, separator, rest = name.partition(":")
    if not separator or kind not in ("FILE", "DIR"):
        return name, os.path.dirname(name)
    if kind == "DIR" and not rest.startswith(":"):
        return rest, rest
    file = rest.removeprefix(":")
    return file, os.path.dirname(file)


def ccache_findings(ccaches: list[Values], now: float) -> Iterator[Finding]:
    """Every ccache that is expired, or whose KDC has another time."""
    wrong = [finding for one in ccaches for finding in _ccache(one, now)]
    yield from wrong or [Finding("ccaches", f"{len(ccaches)}, none expired, no clock skew")]


def _ccache(ccache: Values, now: float) -> Iterator[Finding]:
    name, expires = ccache.get("name"), ccache.get("expires")
    if expires and _seconds(str(expires)) <= now:
        hint = f"'kinit', or 'ccfs destroy {name}'"
        yield Finding("expired", f"ccache {name} expired at {expires}", hint)
    offset = str(ccache.get("kdc_offset") or "0")
    if abs(int(offset)) > SKEW:
        hint = "set the clock (chrony, systemd-timesyncd)"
        yield Finding("clock", f"ccache {name}: the KDC's clock is {offset} s off ours", hint)


def _seconds(timestamp: str) -> int:
    return calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))
