# SPDX-License-Identifier: MIT
"""Journals of version 6: logs with fewer kinds of entries; read once, then converted.

Frames are as in `log.py`.  Their entries:

    W  the collection: change time, last serial number
    C  a ccache: serial, rank, change time, last time as the default, mtime, its name, header and
       principal
    T  the same ccache, with another change time and mtime
    D  a ccache is destroyed, with its records     E  its records are gone
    R  a record at the end of a ccache: its serial, name, size and checksum; the bytes are data
    X  a record is removed
    F  a scratch file that is a whole ccache: the serial of its ccache, name, mtime, size, checksum
    G  a scratch file is removed

Knows entries and extents; never how a log is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any
from zlib import crc32

from ccfs.journal.log import Extent, Log, extent_of, version_of
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
    """`fields`: rank, change time, last time as the default, mtime, name, header and principal."""

    fields: list[Any] = field(default_factory=list)
    records: dict[int, tuple[Extent, int, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """What the frames read so far say."""

    whole: tuple[int, int] | None = None
    ccaches: dict[int, _Ccache] = field(default_factory=dict)
    files: dict[tuple[int, bytes], tuple[Extent, int, float]] = field(default_factory=dict)


def is_journal(path: str) -> bool:
    """Whether the file at `path` is such a log."""
    return version_of(path) == VERSION


def remove_other_files(path: str) -> None:
    """Remove the other files of the journal: there are none."""


def read(path: str, mountpoint: str, uid: int) -> Saved:
    """Read all of it.  Raises DamagedError, ForeignError, InUseError."""
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
    state = _State()
    for frame in log.frames():
        at = frame.data
        for kind, fields, texts in _decoded(frame.meta):
            at = _take(state, kind, fields, texts, at)
    if state.whole is None or not state.ccaches:
        raise DamagedError("it is damaged")
    ccaches = [_saved(log, serial, ccache) for serial, ccache in state.ccaches.items()]
    files = [
        SavedFile(directory or None, name, mtime, _data(log, extent, checksum))
        for (directory, name), (extent, checksum, mtime) in state.files.items()
        if directory in (0, *state.ccaches)
    ]
    ordered = sorted(ccaches, key=lambda ccache: ccache.rank)
    default_chosen = ordered[0].rank < 0  # a ccache that became the default later
    whole = SavedWhole(*state.whole, default_chosen=default_chosen)
    return Saved(whole, tuple(ordered), tuple(files))


def _decoded(meta: bytes) -> Iterator[tuple[str, list[Any], list[bytes]]]:
    """Decode a frame: letter, fields and texts of each entry."""
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


def _take(state: _State, kind: str, fields: list[Any], texts: list[bytes], at: int) -> int:
    """Take an entry whose data is at the offset `at`; returns the offset of the next one's."""
    first, ccaches = fields[0], state.ccaches
    if kind == "W":
        state.whole = (fields[0], fields[1])
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
        state.files.pop((first, texts[0]), None)
    else:
        size, checksum = fields[-2:]
        if kind == "R":
            ccaches[first].records[fields[1]] = (extent_of(at, size), checksum, texts[0])
        else:
            state.files[first, texts[0]] = (extent_of(at, size), checksum, fields[1])
        return at + int(size)
    return at


def _saved(log: Log, serial: int, ccache: _Ccache) -> SavedCcache:
    rank, change_time, default_time, mtime, name, prefix = ccache.fields
    data, records = bytearray(prefix), []
    for number, (extent, checksum, text) in ccache.records.items():
        record = _data(log, extent, checksum)
        data += record
        file_name = text.decode("utf-8", "surrogateescape")
        records.append(SavedRecord(number, file_name, len(record)))
    return SavedCcache(
        serial, name, rank, change_time, default_time, mtime, data, records, bool(data)
    )


def _data(log: Log, extent: Extent, checksum: int) -> bytes:
    data = log.read(extent)
    if crc32(data) != checksum:
        raise DamagedError("it is damaged")
    return data
