# SPDX-License-Identifier: MIT
"""The test vectors: ccaches that other implementations made, good and broken.

Knows the names of the vectors, never what a test expects of them.
"""

from tests.support.paths import VECTORS

GOOD = sorted(path.stem for path in VECTORS.glob("*.ccache") if not path.stem.startswith("broken"))
BROKEN = sorted(path.stem for path in VECTORS.glob("broken-*.ccache"))


def vector(name: str) -> bytes:
    """The bytes of one vector."""
    return (VECTORS / f"{name}.ccache").read_bytes()
