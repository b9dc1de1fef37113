"""What is kept of a collection across a restart: values, whoever keeps them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedRecord:
    """One live record: its number, the name of its file, its bytes in the ccache's dialect."""

    serial: int
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SavedCcache:
    """One ccache; `prefix` is empty where it was uninitialised."""

    serial: int
    name: bytes
    rank: int
    change_time: int
    last_default_time: int
    mtime: float
    prefix: bytes
    records: tuple[SavedRecord, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole collection, the default first."""

    change_time: int
    last: int
    ccaches: tuple[SavedCcache, ...]
