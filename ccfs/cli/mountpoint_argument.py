# SPDX-License-Identifier: MIT
"""Which mount a command is about, and the shell's export line for it.

Knows the environment, ccfsd's mountpoints and the entry point of a mount; never what is in one.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from ccfs.control.client import own_mount
from ccfs.control.messages import RefusedError
from ccfs.control.paths import RUNTIME
from ccfs.errors import UsageError
from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint

CCFSD_SECONDS = 5.0
"""Bound for ccfsd to make a mount."""


def resolve(argument: str | None) -> str:
    """Return the resolved mountpoint of a command: its argument, or the caller's own mount.

    Without an argument, in this order: `$XDG_RUNTIME_DIR/ccfs`, the login's mount, the mount that
    KRB5CCNAME is in, the mount that the working directory is in; if none is mounted, the first.
    """
    if argument is not None or is_mounted(_runtime_mountpoint()):
        return resolve_new(argument)
    login = login_mountpoint()
    path = login if is_mounted(login) else _of_krb5ccname(os.environ) or _of_working_directory()
    return path or resolve_new(None)


def _of_krb5ccname(environment: Mapping[str, str]) -> str | None:
    """Return the caller's mount that contains the ccache in KRB5CCNAME."""
    kind, _, rest = environment.get("KRB5CCNAME", "").rpartition(":")
    return _enclosing(rest) if kind in ("", "FILE", "DIR", "DIR:") and rest else None


def _of_working_directory() -> str | None:
    """Return the caller's mount that contains the working directory."""
    try:
        return _enclosing(os.getcwd())
    except OSError:
        return None


def _enclosing(path: str) -> str | None:
    """Return the innermost ccfs of the caller's above `path`.

    Compares the path's text with the mount table, and touches nothing in the mount: its daemon may
    hang.
    """
    absolute = os.path.abspath(path)
    enclosing = [
        mount.path
        for mount in mountinfo.mounts()
        if mount.is_ccfs
        and mount.owner == os.getuid()
        and (absolute == mount.path or absolute.startswith(mount.path + "/"))
    ]
    return max(enclosing, key=len, default=None)


def resolve_new(argument: str | None) -> str:
    """Return the resolved mountpoint for a new mount: the argument, or the default."""
    return mountpoint.resolve(argument or default(os.environ, os.getuid()))


def login_mountpoint() -> str:
    """Return where ccfsd mounts for the caller."""
    return f"{RUNTIME}/{os.getuid()}"


def mount_by_ccfsd() -> str | None:
    """Have ccfsd make the caller's mount, and return its path.

    None if the caller has a mount of their own, if no ccfsd runs or it refuses, and if its mount is
    not visible here: then ccfsd mounts in another mount namespace.
    """
    if is_mounted(_runtime_mountpoint()):
        return None
    try:
        path = own_mount(seconds=CCFSD_SECONDS)
    except RefusedError:
        return None
    return path if path is not None and is_mounted(path) else None


def is_mounted(path: str | None) -> bool:
    """True if a ccfs, dead or alive, is mounted at `path`."""
    mount = mountinfo.topmost(path) if path else None
    return mount is not None and mount.is_ccfs


def _runtime_mountpoint() -> str | None:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return mountpoint.resolve(os.path.join(runtime, "ccfs")) if runtime else None


def default(environment: Mapping[str, str], uid: int) -> str:
    """Return `$XDG_RUNTIME_DIR/ccfs`; UsageError if the variable is unset."""
    directory = environment.get("XDG_RUNTIME_DIR")
    if not directory:
        raise UsageError(
            "no mountpoint given, and XDG_RUNTIME_DIR is not set",
            f"name a mountpoint, or set XDG_RUNTIME_DIR=/run/user/{uid} if that exists",
        )
    return os.path.join(directory, "ccfs")


def export_line(path: str) -> str:
    """Return the shell command that has Kerberos programs use the default ccache of a mount."""
    return "export KRB5CCNAME=" + shlex.quote(f"FILE:{path}/default/ccache")
