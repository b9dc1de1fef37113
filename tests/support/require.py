# SPDX-License-Identifier: MIT
"""Says whether a client that a test needs is installed.

This file knows names of programs and of Debian packages, never Kerberos and never the mount.
A missing client skips the test with a reason that says what to install. Where nothing may be
skipped (CCFS_REQUIRE_ALL=1, as in CI) it fails the test instead.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require(what: str, install: str, binaries: Iterable[str]) -> dict[str, str]:
    """Return the absolute path of each of `binaries`, or skip (fail in CI) naming `install`.

    `what` is the client's name for people, `install` the command that brings it.
    """
    found = {name: shutil.which(name, path=SEARCH) for name in binaries}
    if lacking := [name for name, path in found.items() if path is None]:
        missing(what, install, f"no {', '.join(lacking)} in PATH")
    return {name: path for name, path in found.items() if path is not None}


def require_file(what: str, install: str, path: Path) -> Path:
    """Return `path` if it exists, or skip (fail in CI) naming `install`."""
    if not path.exists():
        missing(what, install, f"no {path}")
    return path


def missing(what: str, install: str, why: str) -> NoReturn:
    """Skip the running test, or fail it where nothing may be skipped."""
    reason = f"{what} missing ({why}): {install}"
    if os.environ.get("CCFS_REQUIRE_ALL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
