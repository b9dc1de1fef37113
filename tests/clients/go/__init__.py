"""The Go client: gokrb5, built once for a test session from Debian's packages, without network.

This file knows the go command, never ccache bytes.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.run import Output, run
from tests.kdc import Kdc
from tests.require import require, require_file

SOURCE = Path(__file__).with_name("initiate.go")
GOPATH = Path("/usr/share/gocode")
GOKRB5 = GOPATH / "src/github.com/jcmturner/gokrb5/v8"
INSTALL = "apt-get install golang-go golang-github-jcmturner-gokrb5.v8-dev"
BUILD_SECONDS = 180
# Go compiles its own library at the first build (20 s); kept, like Python's own caches.
CACHE = Path(__file__).resolve().parents[3] / "build/go-cache"


@dataclass(frozen=True, slots=True)
class Go:
    """The built program: `run(ccache, service)` loads the ccache and gets a ticket."""

    program: Path
    kdc: Kdc

    def run(self, ccache: Path, service: str, *, status: int | None = 0) -> Output:
        argv = [self.program, self.kdc.mit_conf, ccache, service]
        return run(argv, self.kdc.environment(), status=status)


@pytest.fixture(scope="session")
def go(kdc: Kdc) -> Iterator[Go]:
    """The Go client; skips the test where Go or gokrb5 isn't installed."""
    compiler = require("Go", INSTALL, ["go"])["go"]
    require_file("gokrb5", INSTALL, GOKRB5)
    with tempfile.TemporaryDirectory(prefix="ccfs-go-") as directory:
        program = Path(directory) / "initiate"
        environment = {
            **kdc.environment(),
            "GO111MODULE": "off",
            "GOPATH": str(GOPATH),
            "GOFLAGS": "-trimpath",
            "GOCACHE": str(CACHE),
            "GOTMPDIR": directory,
            "CGO_ENABLED": "0",
        }
        run([compiler, "build", "-o", program, SOURCE], environment, seconds=BUILD_SECONDS)
        yield Go(program, kdc)
