# SPDX-License-Identifier: MIT
"""The build backend: setuptools, after a check for what building pyfuse3 takes.

pip builds pyfuse3 next.  Without pkg-config or libfuse's headers that build ends in a page of
output with the reason in its middle.  `CCFS_NO_CHECK=1` skips the check: building a wheel of ccfs
alone needs neither.
"""

import os
import shutil
import subprocess

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_HINT = "on Debian: apt-get install gcc pkg-config libfuse3-dev python3-dev"


def get_requires_for_build_wheel(settings: object = None) -> list[str]:
    """Return setuptools' requirements; SystemExit where pyfuse3 can't be built."""
    _check()
    return list(build_meta.get_requires_for_build_wheel(settings))


def get_requires_for_build_editable(settings: object = None) -> list[str]:
    """Return setuptools' requirements; SystemExit where pyfuse3 can't be built."""
    _check()
    return list(build_meta.get_requires_for_build_editable(settings))


def _check() -> None:
    if os.environ.get("CCFS_NO_CHECK"):
        return
    program = shutil.which("pkg-config")
    if program is None:
        raise SystemExit(f"ccfs: error: pkg-config is missing\nccfs: hint: {_HINT}")
    found = subprocess.run([program, "--exists", "fuse3"], check=False)  # noqa: S603
    if found.returncode:
        raise SystemExit(f"ccfs: error: the headers of libfuse3 are missing\nccfs: hint: {_HINT}")
