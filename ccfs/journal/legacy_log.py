"""Journals of version 6: logs that had less in them; read once, then written as they are now.

Frames are what they are still (`log.py`).  Their entries:

    W  the collection: change time, last serial number
    C  a ccache: serial, rank, change time, last time as the default, mtime, its name, header and
       principal
    T  the same ccache, with another change time and mtime
    D  a ccache is gone, with its records          E  its records are gone
    R  a record at the end of a ccache: its serial, name, size and checksum; the bytes are data
    X  a record is gone
    F  a scratch file that is a whole ccache: the serial of its ccache, name, mtime, size, checksum
    G  a scratch file is gone

Knows entries and places; never how a log is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any
from zlib import crc32

from ccfs.journal.log import Log, Place, place, version_of
from ccfs.store.errors import DamagedError
from ccfs.store.snapshot import Saved, SavedCcache, SavedFile, SavedRecord, SavedWhole

VERSION = 6
_FORMS = {
    ord("W"): Struct("<Bqq"),
    ord("C"): Struct("<BqqqqdHI"),
    ord("T"): Struct("<Bqqd"),
    ord("D"): Struct("<Bq"),
    ord("E"): Struct("<Bq"),
    ord("R"): Struct("<BqqHII"),
    ord("X"): Struct("<Bqq"),
    ord("F"): Struct("<BqdHII"),
    ord("G"): Struct("<BqH"),
}
_TEXTS = {"C": (5, 6), "R": (2,), "F": (2,), "G": (1,)}
"""Which fields are the sizes of the texts that follow them."""


@dataclass(slots=True)
class _Ccache:
    fields: list[Any] = field(default_factory=list)
    records: dict[int, tuple[Place, int, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class _Steps:
    """What the frames have said so far."""

    whole: SavedWhole | None = None
    ccaches: dict[int, _Ccache] = field(default_factory=dict)
    files: dict[tuple[int, bytes], tuple[Place, int, float]] = field(default_factory=dict)


def is_one(path: str) -> bool:
    """Whether there is such a log."""
    return version_of(path) == VERSION


def remove(path: str) -> None:
    """Remove what it has beside it: nothing."""


def read(path: str, mountpoint: str, uid: int) -> Saved:
    """All that it has.  Raises DamagedError, ForeignError, InUseError."""
    try:
        log = Log(path, fresh=False)
        try:
            return _read(log, mountpoint.encode("utf-8", "surrogateescape"), uid)
        finally:
            log.close()
    except (OSError, struct.error, KeyError, ValueError):
        raise DamagedError("it is damaged") from None


def _read(log: Log, mountpoint: bytes, uid: int) -> Saved:
    log.check(mountpoint, uid, VERSION)
    steps = _Steps()
    for frame in log.frames():
        at = frame.data
        for kind, fields, texts in _decoded(frame.meta):
            at = _take(steps, kind, fields, texts, at)
    if steps.whole is None or not steps.ccaches:
        raise DamagedError("it is damaged")
    ccaches = [_saved(log, serial, ccache) for serial, ccache in steps.ccaches.items()]
    files = [
        SavedFile(*key, mtime, _data(log, where, check))
        for key, (where, check, mtime) in steps.files.items()
        if key[0] in (0, *steps.ccaches)
    ]
    ordered = sorted(ccaches, key=lambda ccache: ccache.rank)
    return Saved(steps.whole, tuple(ordered), tuple(files))


def _decoded(meta: bytes) -> Iterator[tuple[str, list[Any], list[bytes]]]:
    """Letter, fields and texts of each entry."""
    at = 0
    while at < len(meta):
        kind, form = chr(meta[at]), _FORMS[meta[at]]
        _, *fields = form.unpack_from(meta, at)
        at += form.size
        texts = []
        for number in _TEXTS.get(kind, ()):
            texts.append(meta[at : at + fields[number]])
            at += fields[number]
        yield kind, fields, texts
    if at != len(meta):
        raise KeyError(at)


def _take(steps: _Steps, kind: str, fields: list[Any], texts: list[bytes], at: int) -> int:
    """Take an entry whose data, if it has any, is at `at`; returns where the next one's is."""
    first, ccaches = fields[0], steps.ccaches
    if kind == "W":
        steps.whole = SavedWhole(*fields)
    elif kind == "C":
        ccaches.setdefault(first, _Ccache()).fields = [*fields[1:5], *texts]
    elif kind == "T":
        ccaches[first].fields[1], ccaches[first].fields[3] = fields[1:]
    elif kind == "D":
        ccaches.pop(first, None)
    elif kind == "E":
        ccaches.get(first, _Ccache()).records.clear()
    elif kind == "X":
        del ccaches[first].records[fields[1]]
    elif kind == "G":
        steps.files.pop((first, texts[0]), None)
    else:
        size, check = fields[-2:]
        if kind == "R":
            ccaches[first].records[fields[1]] = (place(at, size), check, texts[0])
        else:
            steps.files[first, texts[0]] = (place(at, size), check, fields[1])
        return at + int(size)
    return at


def _saved(log: Log, serial: int, ccache: _Ccache) -> SavedCcache:
    rank, change_time, default, mtime, name, prefix = ccache.fields
    data, records = bytearray(prefix), []
    for number, (where, check, text) in ccache.records.items():
        part = _data(log, where, check)
        data += part
        records.append(SavedRecord(number, text.decode("utf-8", "surrogateescape"), len(part)))
    return SavedCcache(serial, name, rank, change_time, default, mtime, data, records)


def _data(log: Log, where: Place, check: int) -> bytes:
    data = log.read(where)
    if crc32(data) != check:
        raise DamagedError("it is damaged")
    return data
