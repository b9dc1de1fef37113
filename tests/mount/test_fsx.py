# SPDX-License-Identifier: MIT
"""Scratch files under random reads, writes, truncations and mappings hold what they should.

`python -m reliability.files --only fsx` does it for longer.
"""

import json
import os
import random
from pathlib import Path

import pytest

from tests.support.fsx import Fsx
from tests.support.mounting import Mounted

COUNT = 1500


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("directory", ["caches/tkt", "dir"])
def test_scratch_file_passes_fsx(mount: Mounted, directory: str, seed: int) -> None:
    path = mount.path / directory / "scratch"
    Fsx(path, random.Random(seed), mapped=True).run(COUNT)
    path.unlink()
    assert json.loads((mount.path / "stats").read_text())["bytes"] == 0


def test_tmpfs_passes_fsx() -> None:
    """The model of the test agrees with tmpfs."""
    path = Path("/dev/shm") / f"ccfs-fsx-{os.getpid()}"
    try:
        Fsx(path, random.Random(3), mapped=True).run(COUNT)
    finally:
        path.unlink(missing_ok=True)


def test_fsx_detects_difference(tmp_path: Path) -> None:
    run = Fsx(tmp_path / "file", random.Random(4), mapped=True)
    run.run(50)
    with (tmp_path / "file").open("r+b") as file:
        file.write(bytes([run.model[0] ^ 1]))
    run.descriptors = []
    with pytest.raises(AssertionError, match="byte 0 is"):
        run.look_again()
