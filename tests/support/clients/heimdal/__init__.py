# SPDX-License-Identifier: MIT
"""Heimdal's programs, wherever they are installed, and how to run them.

This file knows where programs are, never what they do to a ccache.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import Output, Step, run, transcript
from tests.support.kdc import Kdc
from tests.support.paths import PROJECT
from tests.support.require import missing

UNPACK = Path(__file__).resolve().with_name("unpack").relative_to(PROJECT)
UNPACKED = PROJECT / ".venv/heimdal/usr/bin"
# As Debian names them: MIT's have the plain names. `heimtools` holds klist and kswitch.
PROGRAMS = ("kinit.heimdal", "kdestroy.heimdal", "kgetcred", "heimtools")


@dataclass(frozen=True, slots=True)
class Heimdal:
    """Heimdal's clients of a KDC; the programs are in `directory`."""

    directory: Path
    kdc: Kdc

    def environment(self, ccname: str) -> dict[str, str]:
        made = self.kdc.environment(ccname, heimdal=True)
        return {**made, "PATH": f"{self.directory}:{made['PATH']}"}

    def run(self, ccname: str, *argv: str, status: int | None = 0) -> Output:
        return run(argv, self.environment(ccname), status=status)

    def transcript(self, place: CcacheTree, ccname: str, steps: list[Step]) -> str:
        """What the steps print in `place`; `{place}` in `ccname` is its path."""
        return transcript(place, self.environment(ccname.format(place=place.path)), steps)


@pytest.fixture(scope="session")
def heimdal(kdc: Kdc) -> Iterator[Heimdal]:
    """Heimdal's clients of the session's KDC; skips the test where there are none."""
    for directory in (UNPACKED, *map(Path, os.get_exec_path())):
        if all((directory / name).exists() for name in PROGRAMS):
            yield Heimdal(directory, kdc)
            return
    missing(
        "Heimdal clients",
        f"run scripts/test-packages all and {UNPACK}"
        " (Debian's heimdal-clients can't be installed beside krb5-user)",
        f"no {PROGRAMS[0]} in PATH or {UNPACKED}",
    )
