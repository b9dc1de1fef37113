# SPDX-License-Identifier: MIT
"""Journals that are damaged, changed by hand, foreign or in use."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest

from ccfs.journal import log as logs
from ccfs.journal.journal import Journal
from ccfs.store.errors import DamagedError, ForeignError
from reliability import damage
from tests.support.journals import MOUNT, UID, assert_survives_kill, durable_state, journaled_store
from tests.support.storing import (
    TGT,
    at,
    fill,
    record,
    whole,
)


def test_random_damage_is_found_or_harmless() -> None:
    """Flipped bits, zeros, pieces cut off or mixed up, in each of the files."""
    result = damage.cases(60, seed=7)
    assert result.wrong == []
    assert result.refused > 10
    assert result.right > 0


HEAD = struct.Struct("<8sII32sQ")


def header(data: bytearray, **changed: object) -> None:
    """Change the header by hand, with a checksum that is right."""
    fields = ("magic", "version", "uid", "where", "name")
    values = dict(zip(fields, HEAD.unpack_from(data), strict=True))
    journaled = HEAD.pack(*{**values, **changed}.values())
    data[: len(journaled) + 4] = journaled + zlib.crc32(journaled).to_bytes(4, "little")


def last_frame(data: bytearray) -> tuple[int, int, int]:
    """Where the last frame begins, where its data does, and where it ends."""
    at = 4096
    while True:
        size, room, number, _ = struct.unpack_from("<IIQI", data, at)
        if number == int.from_bytes(data[64:69], "little"):
            return at, at + 20 + size, at + 20 + size + room
        at += 20 + size + room


def steps(data: bytearray, number: int) -> None:
    """Say that so many steps more are acknowledged."""
    now = int.from_bytes(data[64:69], "little")
    data[64:72] = logs._with_checksum(now + number).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: header(d, version=5), "version 5"),
        (lambda d: header(d, magic=b"SQLite f"), "no journal of ccfs"),
        (lambda d: header(d, uid=0), "another user"),
        (lambda d: d.__setitem__(20, d[20] ^ 1), "damaged"),
        (lambda d: d.__setitem__(64, d[64] ^ 1), "damaged"),
        (lambda d: d.__setitem__(71, d[71] ^ 1), "damaged"),
        (lambda d: steps(d, 1), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[0] + 8, 9), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[0] + 25, 9), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[1] + 3, 9), "damaged"),
        (lambda d: d.__delitem__(slice(last_frame(d)[0], None)), "damaged|lost its last changes"),
        (lambda d: d.__delitem__(slice(last_frame(d)[2] - 1, None)), "damaged"),
        (lambda d: d.__delitem__(slice(4096, None)), "damaged|lost its last changes"),
        (lambda d: d.__delitem__(slice(100, None)), "damaged"),
        (lambda d: d.clear(), "no journal of ccfs"),
    ],
)
def test_changed_journal_is_refused(change: Callable[[bytearray], object], said: str) -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT), record(b"host/www@R")))
        journaled.commit()
        journaled.store.edits.store(ccache, record(b"last@R"), at())
        journaled.commit()
        data = bytearray(journaled.bytes())
        change(data)
        path = journaled.path.with_name("by-hand")
        path.write_bytes(data)
        journal = Journal(str(path), fresh=False)
        with pytest.raises(DamagedError, match=said):
            journal.load(MOUNT, UID)
        journal.close()


def test_load_overwrites_bytes_behind_last_step() -> None:
    """A frame that a killed process began is no step, and may hold a secret."""
    with journaled_store() as journaled:
        fill(journaled.store, whole(record(TGT)))
        journaled.commit()
        journaled.journal._writer.log._write(b"<secret>" * 100, journaled.journal._writer.log.end)
        restarted = journaled.restart_after_kill()
        assert b"<secret>" not in restarted.bytes()
        assert durable_state(restarted.store) == durable_state(journaled.store)
        restarted.close()


def test_journal_of_another_mountpoint_or_owner_is_refused() -> None:
    with journaled_store() as journaled:
        journaled.journal.close()
        journaled.journal = Journal(str(journaled.path), fresh=False)
        with pytest.raises(ForeignError):
            journaled.journal.load(MOUNT + "2", UID)
        with pytest.raises(DamagedError, match="another user"):
            journaled.journal.load(MOUNT, UID + 1)
        journaled.journal.load(MOUNT, UID)


def test_journal_in_use_is_refused() -> None:
    with journaled_store() as journaled:
        program = (
            "import sys; from ccfs.store.errors import *; from ccfs.journal.journal import *\n"
            "try: Journal(sys.argv[1], fresh=False)\n"
            "except InUseError: print('in use')"
        )
        command = [sys.executable, "-c", program, str(journaled.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        assert done.stdout == "in use\n"
        assert_survives_kill(journaled)
