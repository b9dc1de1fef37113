"""What is kept of a collection across a restart: values, whoever keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedCcache:
    """One ccache; `data` is empty where it was uninitialised.

    `serials` and `names`: of its records, in the order in which their bytes stand in `data`.
    """

    serial: int
    name: bytes
    rank: int
    change_time: int
    last_default_time: int
    mtime: float
    data: bytearray
    serials: Sequence[int]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A scratch file that is a whole ccache.  `place`: the serial of a ccache, or 0 for `dir/`."""

    place: int
    name: bytes
    mtime: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole collection, the default first."""

    change_time: int
    last: int
    ccaches: tuple[SavedCcache, ...]
    files: tuple[SavedFile, ...] = ()
