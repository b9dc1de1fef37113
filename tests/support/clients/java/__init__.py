# SPDX-License-Identifier: MIT
"""The Java client: the JDK's own Kerberos, compiled once for a test session.

This file knows javac and java, never ccache bytes. Compiling needs a JDK; a JRE alone won't do.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client_programs import Output, run
from tests.support.kdc import Kdc
from tests.support.require import require

SOURCE = Path(__file__).with_name("Initiate.java")
INSTALL = "apt-get install default-jdk-headless"
# A small heap, one collector thread, the quickest compiler: the program lives for a second.
QUICK = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@dataclass(frozen=True, slots=True)
class Java:
    """The compiled program: `run(ccache, service)` logs in and starts a context."""

    java: str
    classes: Path
    kdc: Kdc

    def run(self, ccache: Path, service: str, *, status: int | None = 0) -> Output:
        argv = [
            self.java,
            *QUICK,
            f"-Djava.security.krb5.conf={self.kdc.mit_conf}",
            f"-Djava.io.tmpdir={self.kdc.directory}",
            "-XX:-UsePerfData",
            "-cp",
            str(self.classes),
            "Initiate",
            str(ccache),
            service,
        ]
        return run(argv, self.kdc.environment(), status=status)


@pytest.fixture(scope="session")
def java(kdc: Kdc) -> Iterator[Java]:
    """The Java client; skips the test where there is no JDK."""
    programs = require("JDK", INSTALL, ["java", "javac"])
    with tempfile.TemporaryDirectory(prefix="ccfs-java-") as directory:
        classes = Path(directory)
        compile_java = [programs["javac"], "-J-XX:TieredStopAtLevel=1", "-J-XX:-UsePerfData"]
        run([*compile_java, "-d", classes, SOURCE], kdc.environment(), seconds=60)
        yield Java(programs["java"], classes, kdc)
