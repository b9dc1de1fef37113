# SPDX-License-Identifier: MIT
"""Where the project's files are that tests read or run."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
VECTORS = PROJECT / "tests/vectors"
