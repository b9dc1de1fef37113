"""Where a command's mount is, and how a shell is told of it.

Knows the environment and the layout's entry point; never what is mounted there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from ccfs.control import messages, paths
from ccfs.control.client import own_mount
from ccfs.errors import UsageError
from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint

ASK_SECONDS = 5.0
"""How long ccfsd may take to make a mount."""


def of(given: str | None) -> str:
    """The mountpoint a command is about, resolved: the one given, or the user's own.

    That is where `ccfs mount` has it, or else the mount of the login, or the one that KRB5CCNAME or
    the working directory is in.
    """
    if given is not None or is_mounted(_beside_login()):
        return new(given)
    found = at_login() if is_mounted(at_login()) else _named(os.environ) or _around()
    return found or new(None)


def _named(environment: Mapping[str, str]) -> str | None:
    """The caller's ccfs that the ccache in KRB5CCNAME is in."""
    kind, _, rest = environment.get("KRB5CCNAME", "").rpartition(":")
    return _enclosing(rest) if kind in ("", "FILE", "DIR", "DIR:") and rest else None


def _around() -> str | None:
    """The caller's ccfs that the working directory is in."""
    try:
        return _enclosing(os.getcwd())
    except OSError:
        return None


def _enclosing(path: str) -> str | None:
    """The innermost ccfs of the caller's that `path` is below, by its text and the mount table.

    Nothing in the mount is touched: its daemon may hang.
    """
    absolute = os.path.abspath(path)
    inside = [
        mount.path
        for mount in mountinfo.mounts()
        if mount.is_ccfs
        and mount.owner == os.getuid()
        and (absolute == mount.path or absolute.startswith(mount.path + "/"))
    ]
    return max(inside, key=len, default=None)


def new(given: str | None) -> str:
    """Where `ccfs mount` makes one."""
    return mountpoint.resolve(given or default(os.environ, os.getuid()))


def at_login() -> str:
    """Where ccfsd has the mount of the caller."""
    return f"{paths.RUNTIME}/{os.getuid()}"


def asked() -> str | None:
    """The caller's mount as ccfsd makes it, if there is none of their own and ccfsd runs here.

    A mount that this process can't see is none: ccfsd mounts in another namespace then.
    """
    if is_mounted(_beside_login()):
        return None
    try:
        path = own_mount(seconds=ASK_SECONDS)
    except messages.RefusedError:
        return None
    return path if path is not None and is_mounted(path) else None


def is_mounted(path: str | None) -> bool:
    """Whether a ccfs is mounted at a path, dead or alive."""
    mount = mountinfo.topmost(path) if path else None
    return mount is not None and mount.is_ccfs


def _beside_login() -> str | None:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return mountpoint.resolve(os.path.join(runtime, "ccfs")) if runtime else None


def default(environment: Mapping[str, str], uid: int) -> str:
    """`$XDG_RUNTIME_DIR/ccfs`; UsageError when there is no such variable."""
    directory = environment.get("XDG_RUNTIME_DIR")
    if not directory:
        raise UsageError(
            "no mountpoint given, and XDG_RUNTIME_DIR is not set",
            f"name a mountpoint, or set XDG_RUNTIME_DIR=/run/user/{uid} where that exists",
        )
    return os.path.join(directory, "ccfs")


def export_line(path: str) -> str:
    """The shell command that makes Kerberos programs use the default ccache at `path`."""
    return "export KRB5CCNAME=" + shlex.quote(f"FILE:{path}/default/ccache")
