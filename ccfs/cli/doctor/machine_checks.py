# SPDX-License-Identifier: MIT
"""Checks of the machine: what a mount needs of it, and where secrets might leak to a disk.

Knows devices, limits and swap; never a mount.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator

from ccfs.cli.doctor import kcm_server
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine
from ccfs.cli.doctor.swap import unencrypted_areas
from ccfs.mounting import mountpoint

OLDEST_KERNEL = (5, 10)
"""Debian 11's; older ones are untested."""
FEWEST_FILES = 256


def check(machine: Machine) -> Iterator[Finding]:
    """Yield the finding of each check."""
    for run_check in CHECKS:
        yield run_check(machine)


def fuse_device(machine: Machine) -> Finding:
    """Check that the user can open the FUSE device."""
    name, device = "fuse-device", machine.fuse_device
    try:
        status = os.stat(device)
    except OSError:
        hint = "'modprobe fuse'; give it to a container with '--device /dev/fuse'"
        return Finding(name, f"there is no {device}", hint)
    text = f"{device} has mode {stat.S_IMODE(status.st_mode):04o}"
    if not mountpoint.is_fuse_device(status):
        return Finding(name, f"{device} is not the FUSE device", mountpoint.WRONG_DEVICE)
    if not _may_open(status, machine.uid):
        return Finding(
            name, f"{text}, uid {machine.uid} may not open it", "as root: 'chmod 666' it"
        )
    return Finding(name, text)


def _may_open(status: os.stat_result, uid: int) -> bool:
    """True if the mode bits let a user read and write."""
    if uid in (0, status.st_uid):
        return uid == 0 or bool(status.st_mode & 0o600 == 0o600)
    in_group = status.st_gid in (os.getegid(), *os.getgroups())
    return status.st_mode & (0o060 if in_group else 0o006) in (0o060, 0o006)


def fusermount(machine: Machine) -> Finding:
    """Check that fusermount3 is installed, setuid root."""
    path = machine.find_program("fusermount3")
    if machine.uid == 0:
        return Finding("fusermount3", "not needed by root")
    if path is None:
        return Finding("fusermount3", "there is no fusermount3", "as root: 'apt install fuse3'")
    status = os.stat(path)
    if status.st_uid != 0 or not status.st_mode & stat.S_ISUID:
        return Finding("fusermount3", f"{path} is not setuid root", "reinstall the package fuse3")
    return Finding("fusermount3", path)


def kernel(_: Machine) -> Finding:
    """Check that the kernel is not older than OLDEST_KERNEL."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_KERNEL:
        return Finding("kernel", f"Linux {release} is untested", "use 5.10 or newer")
    return Finding("kernel", f"Linux {release}")


def open_files(_: Machine) -> Finding:
    """Check that a process may have enough files open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        return Finding("open-files", f"the limit is {soft}", f"'ulimit -n {FEWEST_FILES}' or more")
    return Finding("open-files", f"the limit is {_limit_text(soft)}")


def memlock(machine: Machine) -> Finding:
    """Check that the daemon may lock its memory, unless no swap area would keep it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = f"the limit is {_limit_text(hard)}"
    if machine.uid == 0 or hard == resource.RLIM_INFINITY:
        return Finding("memlock", text)
    if not unencrypted_areas(machine):
        return Finding("memlock", f"{text}: memory is not locked, and can't be swapped to a disk")
    hint = "raise it to unlimited ('memlock' in limits.conf, or LimitMEMLOCK=infinity)"
    return Finding("memlock", f"{text}, so the daemon's memory may be swapped out", hint)


def swap(machine: Machine) -> Finding:
    """Check that swapped memory is not readable later: the journal's tmpfs can't be locked."""
    areas = unencrypted_areas(machine)
    if not areas:
        return Finding("swap", "none on a disk that is not encrypted")
    hint = "'swapoff' it, encrypt it, or use zram"
    return Finding("swap", f"{', '.join(areas)} may get the journal, which is in a tmpfs", hint)


def _limit_text(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    fuse_device,
    fusermount,
    kernel,
    open_files,
    memlock,
    swap,
    kcm_server.check,
)
