"""Ccaches made by other implementations, and generated values of every kind.

Knows what each vector is called and what values the format can hold, never what a test wants.
"""

from pathlib import Path

HERE = Path(__file__).parents[1] / "vectors"
GOOD = sorted(path.stem for path in HERE.glob("*.ccache") if not path.stem.startswith("broken"))
BROKEN = sorted(path.stem for path in HERE.glob("broken-*.ccache"))


def vector(name: str) -> bytes:
    """The bytes of one vector."""
    return (HERE / f"{name}.ccache").read_bytes()
