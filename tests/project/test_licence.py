# SPDX-License-Identifier: MIT
"""Every source file names its licence in its first lines."""

from pathlib import Path

import pytest

from tests.support.paths import PROJECT

LINE = "SPDX-License-Identifier: MIT"
TOPS = (".ci", "bench", "ccfs", "mount-helper", "reliability", "scripts", "tests")


def sources() -> list[Path]:
    """Python and C files and shell scripts of the project."""
    files = (path for top in TOPS for path in (PROJECT / top).rglob("*") if path.is_file())
    return [path for path in files if path.suffix in {".py", ".c", ".h"} or is_script(path)]


def is_script(path: Path) -> bool:
    """Whether a file is run by a shell."""
    with path.open("rb") as file:
        head = file.readline(80)
    return head.startswith(b"#!") and b"sh" in head


@pytest.mark.parametrize("top", TOPS)
def test_sources_name_their_licence(top: str) -> None:
    missing = [
        path
        for path in sources()
        if path.is_relative_to(PROJECT / top) and LINE not in "".join(first_lines(path))
    ]
    assert missing == []


def first_lines(path: Path) -> list[str]:
    """The first two lines of a file."""
    return path.read_text().splitlines()[:2]
