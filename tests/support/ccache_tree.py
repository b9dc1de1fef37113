# SPDX-License-Identifier: MIT
"""Where a test keeps ccaches: a ccfs mount, or its twin, ordinary directories on tmpfs.

This file knows paths and residuals, never Kerberos. A client must not be able to tell the two
kinds of place apart, so a test is written for a place and runs in both, or runs in both and
compares.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TMPFS = "/dev/shm"

# the fixtures of the programs that tests run in a place
pytest_plugins = (
    "tests.support.clients.heimdal",
    "tests.support.clients.java",
    "tests.support.clients.go",
    "tests.support.clients.python",
)


@dataclass(frozen=True, slots=True)
class CcacheTree:
    """A directory laid out like a ccfs mount; `ccfs` says whether it is one."""

    path: Path
    ccfs: bool

    @property
    def default(self) -> Path:
        return self.path / "default" / "ccache"

    @property
    def file_name(self) -> str:
        """KRB5CCNAME of the default ccache."""
        return f"FILE:{self.default}"

    @property
    def dir_name(self) -> str:
        """KRB5CCNAME of the collection."""
        return f"DIR:{self.path / 'dir'}"

    def ccache(self, name: str) -> Path:
        """The file of the ccache `name`, whose directory is made if it isn't there."""
        directory = self.path / "caches" / name
        directory.mkdir(exist_ok=True)
        return directory / "ccache"

    def join_names(self) -> tuple[Path, Path]:
        """The two names of the ccache `tkt`, which must have been initialised.

        In a mount they are one file already, in the twin they are made so.
        """
        name, twin = self.path / "caches/tkt/ccache", self.path / "dir/tkt"
        if not self.ccfs:
            twin.unlink(missing_ok=True)
            twin.hardlink_to(name)
        return name, twin


@pytest.fixture
def tmpfs() -> Iterator[CcacheTree]:
    """A fresh twin: what a mount looks like, on tmpfs."""
    path = Path(tempfile.mkdtemp(prefix="ccfs-twin-", dir=TMPFS))
    try:
        for name in ("default", "caches", "caches/tkt", "dir"):
            (path / name).mkdir(mode=0o700)
        yield CcacheTree(path, ccfs=False)
    finally:
        shutil.rmtree(path)


@pytest.fixture
def mounted(request: pytest.FixtureRequest) -> CcacheTree:
    """A fresh mount."""
    return CcacheTree(request.getfixturevalue("mount").path, ccfs=True)


@pytest.fixture(params=["tmpfs", "mounted"])
def place(request: pytest.FixtureRequest) -> CcacheTree:
    """A fresh place of either kind: what fails in the twin too isn't the mount's fault."""
    made = request.getfixturevalue(request.param)
    assert isinstance(made, CcacheTree)
    return made
