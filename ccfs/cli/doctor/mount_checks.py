# SPDX-License-Identifier: MIT
"""Checks of a mount: its owner and options, its daemon's memory, its ccaches' times.

Knows the mount table, /proc and the `info` files; never the bytes of a ccache.
No check waits for a daemon without a bound.
"""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator

from ccfs.cli import ccache_infos, info
from ccfs.cli.doctor import journal_checks, krb5ccname_check
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine
from ccfs.cli.doctor.swap import unencrypted_areas
from ccfs.errors import NotMountedError, UserError
from ccfs.linux.mountinfo import Mount
from ccfs.mounting import mountpoint
from ccfs.mounting.mountpoint import State

REQUIRED_OPTIONS = ("nosuid", "nodev", "noexec")
REQUIRED_WITH_ALLOW_OTHER = (*REQUIRED_OPTIONS, "default_permissions")
"""With allow_other the kernel passes other users' requests on, and must check modes itself."""
CLOCK_SKEW = 300
"""Seconds that Kerberos tolerates between two clocks (RFC 4120 section 7.5.1)."""

Values = dict[str, info.Value]


def check(path: str, machine: Machine, now: float) -> Iterator[Finding]:
    """Yield the finding of each check that is possible for the mount at `path`."""
    try:
        mount = mountpoint.find(path)
    except NotMountedError as error:
        yield Finding("mount", error.reason, error.hint)
        return
    state = _state(mount)
    yield state
    yield check_owner(mount, machine.uid)
    yield check_options(mount)
    if not state.ok:
        return
    try:
        values = info.of_mount(mountpoint.call(path, lambda: mountpoint.read(path, "info")))
        ccaches = ccache_infos.read_initialised(path)
    except UserError as error:
        yield Finding("access", error.reason, error.hint or "ask the mount's owner to run this")
        return
    yield from check_daemon(values, machine)
    yield from journal_checks.check(str(values.get("journal") or ""), empty=not values.get("bytes"))
    yield krb5ccname_check.check(path, machine, str(values.get("kcm_socket") or ""))
    yield from check_ccaches(ccaches, now)


def _state(mount: Mount) -> Finding:
    state = mountpoint.probe(mount)
    if state is State.ALIVE:
        return Finding("mount", f"the ccfs at {mount.path} answers")
    error = (mountpoint.dead_error if state is State.DEAD else mountpoint.no_answer_error)(
        mount.path
    )
    return Finding("mount", error.reason, error.hint)


def check_owner(mount: Mount, uid: int) -> Finding:
    """Check that the mount is the user's, by the kernel's mount table."""
    if mount.owner == uid:
        return Finding("owner", f"it belongs to uid {uid}")
    hint = "trust it with nothing unless you know why; 'ccfs mount' elsewhere"
    return Finding("owner", f"it belongs to uid {mount.owner}, you are uid {uid}", hint)


def check_options(mount: Mount) -> Finding:
    """Check that no setuid program, device or program can come from the mount."""
    with_others = "allow_other" in mount.options
    required = REQUIRED_WITH_ALLOW_OTHER if with_others else REQUIRED_OPTIONS
    missing = [option for option in required if option not in mount.options]
    if missing:
        return Finding("options", f"mounted without {','.join(missing)}", "mount it anew")
    return Finding("options", ",".join(required))


def check_daemon(values: Values, machine: Machine) -> Iterator[Finding]:
    """Check that no other process can read the daemon's memory, and that it can't be swapped out.

    `values`: the mount's `info`.
    """
    pid = values.get("pid")
    try:
        status = read_proc_status(f"/proc/{pid}/status")
        # /proc/PID belongs to the user in either case, /proc/PID/mem to root if undumpable.
        mem_uid = os.stat(f"/proc/{pid}/mem").st_uid
    except OSError:
        yield Finding("daemon", f"process {pid} is not visible from here", unknown=True)
        return
    uid = int(status["Uid"].split()[0])
    if uid and mem_uid == uid:
        text = f"other processes of uid {uid} can read the memory of process {pid}"
        yield Finding("dumpable", text, "mount it anew, and see the log for the reason")
    else:
        yield Finding("dumpable", f"process {pid} is undumpable" if uid else "root runs the daemon")
    yield check_locked(status.get("VmLck", "0 kB"), machine)


def check_locked(amount: str, machine: Machine) -> Finding:
    """Check that the daemon's memory is locked, or can't be swapped to a disk.

    `amount`: VmLck of /proc/PID/status.
    """
    if int(amount.split()[0]):
        return Finding("locked", "the daemon's memory is locked")
    if not unencrypted_areas(machine):
        text = "the daemon's memory is not locked, and there is no unencrypted swap area"
        return Finding("locked", text)
    hint = "raise the limit 'memlock' to unlimited, and mount it anew"
    return Finding("locked", "the daemon's memory may be swapped out", hint)


def read_proc_status(path: str) -> dict[str, str]:
    """Return the lines of /proc/PID/status (proc(5)) by their keys."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        pairs = (line.partition(":") for line in file)
        return {key: value.strip() for key, _, value in pairs}


def check_ccaches(ccaches: list[Values], now: float) -> Iterator[Finding]:
    """Check for expired ccaches and for clocks that differ from the KDC's."""
    faults = [finding for ccache in ccaches for finding in _ccache_faults(ccache, now)]
    yield from faults or [Finding("ccaches", f"{len(ccaches)}, none expired, no clock skew")]


def _ccache_faults(ccache: Values, now: float) -> Iterator[Finding]:
    name, expires = ccache.get("name"), ccache.get("expires")
    if expires and _seconds(str(expires)) <= now:
        hint = f"'kinit', or 'ccfs destroy {name}'"
        yield Finding("expired", f"ccache {name} expired at {expires}", hint)
    offset = str(ccache.get("kdc_offset") or "0")
    if abs(int(offset)) > CLOCK_SKEW:
        hint = "set the clock (chrony, systemd-timesyncd)"
        yield Finding("clock", f"ccache {name}: the KDC's clock is {offset} s off ours", hint)


def _seconds(timestamp: str) -> int:
    return calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))
