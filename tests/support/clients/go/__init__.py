# SPDX-License-Identifier: MIT
"""The Go client: gokrb5, built once for a test session from Debian's packages, without network.

This file knows the go command, never ccache bytes. Go compiles its own library at the first build,
which takes as long as many tests: it is begun when the session has found tests that want it, and
waited for by the first of them.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client_programs import Output, run
from tests.support.kdc import Kdc
from tests.support.paths import PROJECT
from tests.support.require import SEARCH, require, require_file

SOURCE = Path(__file__).with_name("initiate.go")
GOPATH = Path("/usr/share/gocode")
GOKRB5 = GOPATH / "src/github.com/jcmturner/gokrb5/v8"
INSTALL = "apt-get install golang-go golang-github-jcmturner-gokrb5.v8-dev"
BUILD_SECONDS = 180
# Kept from one session to the next, like Python's own caches.
CACHE = PROJECT / "build/go-cache"


@dataclass(frozen=True, slots=True)
class Go:
    """The built program: `run(ccache, service)` loads the ccache and gets a ticket."""

    program: Path
    kdc: Kdc

    def run(self, ccache: Path, service: str, *, status: int | None = 0) -> Output:
        argv = [self.program, self.kdc.mit_conf, ccache, service]
        return run(argv, self.kdc.environment(), status=status)  # type: ignore[arg-type]


class Build:
    """A build that goes on beside the tests; nothing is left of it when the session ends."""

    def __init__(self, compiler: str) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="ccfs-go-")
        directory = self._place.name
        self.program = Path(directory) / "initiate"
        environment = {
            "PATH": SEARCH,
            "HOME": directory,
            "GO111MODULE": "off",
            "GOPATH": str(GOPATH),
            "GOFLAGS": "-trimpath",
            "GOCACHE": str(CACHE),
            "GOTMPDIR": directory,
            "CGO_ENABLED": "0",
        }
        self._process = subprocess.Popen(
            [compiler, "build", "-o", str(self.program), str(SOURCE)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self) -> Path:
        """The program, once it is there."""
        said, _ = self._process.communicate(timeout=BUILD_SECONDS)
        assert self._process.returncode == 0, said
        return self.program

    def end(self) -> None:
        """Whether it has ended or not."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=BUILD_SECONDS)
        self._place.cleanup()


BUILD = pytest.StashKey[Build]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to build where a test is going to want it and everything is there."""
    wanted = any("go" in getattr(item, "fixturenames", ()) for item in session.items)
    compiler = shutil.which("go", path=SEARCH)
    if wanted and compiler and GOKRB5.exists() and not session.config.option.collectonly:
        session.config.stash[BUILD] = Build(compiler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing of it."""
    build = config.stash.get(BUILD, None)
    if build is not None:
        build.end()


@pytest.fixture(scope="session")
def go(kdc: Kdc, pytestconfig: pytest.Config) -> Go:
    """The Go client; skips the test where Go or gokrb5 isn't installed."""
    require("Go", INSTALL, ["go"])
    require_file("gokrb5", INSTALL, GOKRB5)
    return Go(pytestconfig.stash[BUILD].wait(), kdc)
