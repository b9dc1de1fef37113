"""Where a command's mount is, and how a shell is told of it.

Knows the environment and the layout's entry point; never what is mounted there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from ccfs import mountpoint
from ccfs.errors import UsageError


def of(given: str | None) -> str:
    """The mountpoint a command is about, resolved: the one given, or the user's own."""
    return mountpoint.resolve(given or default(os.environ, os.getuid()))


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
