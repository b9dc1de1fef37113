# SPDX-License-Identifier: MIT
"""The benchmark in its short form, all parts of it: that it measures, not what."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.parts import TITLES
from tests.support.kdc import MIT_INSTALL, PROGRAMS
from tests.support.paths import PROJECT
from tests.support.require import missing, require

SECONDS = 100
SERVING = ("file", "keyring", "plain-kcm", "plain-fuse", "ccfs")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def left() -> set[str]:
    """What a run could leave behind: mounts, files in memory, processes."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    files = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith("b")}
    running = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"bench" in words or b"bench.plain_kcm" in words or b"bench.plain_fuse" in words:
                running.add(entry.name)
    return {path for path in mounts if path.startswith("/dev/shm/b")} | files | running


def test_short_run_measures_all_parts(tmp_path: Path) -> None:
    require("MIT Kerberos", MIT_INSTALL, PROGRAMS)
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "namespaces are made by root")
    before = left()
    done = bench("--short", "--peers", ",".join(SERVING), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["missing"] == {}, done.stderr
    assert kept["failures"] == []
    found = {cell["part"] for cell in kept["cells"]}
    assert found == set(TITLES)
    for part in ("operations", "processes", "growth, ccaches", "many at once"):
        assert {c["peer"] for c in kept["cells"] if c["part"] == part} == set(SERVING)
    assert all(cell["samples"] for cell in kept["cells"])
    assert "## Goals" in (tmp_path / "results.md").read_text()
    assert left() - before == set()


def test_run_names_missing_peers() -> None:
    done = bench("--only", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: ")
    assert "Traceback" not in done.stderr
