# SPDX-License-Identifier: MIT
"""Headers changed anywhere: what MIT's klist refuses is refused here, and the other way round."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.store.ccache_scan import is_whole
from tests.support.clients.python import records
from tests.support.kdc import MIT_INSTALL
from tests.support.require import require

BODY = records.ccache(["host/one"])[4:]
TIME = bytes(8)


def tag(number: int, contents: bytes, length: int | None = None) -> bytes:
    size = len(contents) if length is None else length
    return number.to_bytes(2, "big") + size.to_bytes(2, "big") + contents


def headers() -> Iterator[bytes]:
    """Version 4, the length of the header, its tags: right, wrong, and cut anywhere."""
    tags = [
        tag(1, TIME),
        tag(1, bytes(7)),
        tag(1, bytes(9)),
        tag(1, b""),
        tag(2, b"abc"),
        tag(2, b""),
    ]
    tags += [tag(0, b"x" * 5), tag(0xFFFF, bytes(300)), tag(1, TIME, 9), tag(2, b"abc", 60_000)]
    tags += [b"", b"\0", b"\0\1", b"\0\1\0", b"\0\1\0\x08", b"\0\2\0\0\0"]
    for first, second in itertools.product(tags, [b"", tag(1, TIME), tag(3, b"z"), b"\0\1"]):
        both = first + second
        for wrong in (0, 1, -1, 2, 4):
            if len(both) + wrong >= 0:
                yield (len(both) + wrong).to_bytes(2, "big") + both


@pytest.mark.parametrize("version", [b"\5\4"])
def test_klist_agrees_on_headers(tmp_path: Path, version: bytes) -> None:
    """klist reads the principal and the credentials behind a header that it accepts."""
    klist = require("MIT Kerberos", MIT_INSTALL, ["klist"])["klist"]
    differ, accepted = [], 0
    for number, header in enumerate(headers()):
        data = version + header + BODY
        path = tmp_path / str(number)
        path.write_bytes(data)
        environment = {"LC_ALL": "C", "KRB5_CONFIG": os.devnull}
        command = [klist, "-c", f"FILE:{path}"]
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=30, check=False
        )
        good = done.returncode == 0 and b"host/one@KRBTEST.COM" in done.stdout
        accepted += good
        if good != is_whole(data, 1 << 20):
            differ.append((header.hex(), good, done.stdout + done.stderr))
    assert differ == []
    assert accepted > 10
