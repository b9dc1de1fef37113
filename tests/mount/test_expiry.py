# SPDX-License-Identifier: MIT
"""A credential's expiry is announced, by inotify too, without any change by a client."""

import time
from pathlib import Path

import pytest

from ccfs.format.credential import Credential, Keyblock, Times, encode_credential
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import parse_name
from tests.support.inotify import IN_ATTRIB, IN_CREATE, seen, watching
from tests.support.mounting import Mounted

CLIENT = parse_name(b"alice@KRBTEST.COM")
SERVER = parse_name(b"host/www@KRBTEST.COM")
LINE = "\t{}\twork\thost%2Fwww@KRBTEST.COM\tuid=0\tpid=0\t"


@pytest.fixture
def work(mount: Mounted) -> Path:
    """An initialised ccache."""
    directory = mount.path / "caches" / "work"
    directory.mkdir()
    (directory / "principal").write_bytes(b"alice@KRBTEST.COM\n")
    return directory


def ending_in(seconds: int) -> bytes:
    """A marshalled credential that ends so many seconds from now."""
    now = int(time.time())
    times = Times(now, now, now + seconds, 0)
    key = Keyblock(18, bytes(32))
    return encode_credential(
        Credential(CLIENT, SERVER, key, times, 0, 0, (), (), b"ticket", b""), DIALECT_V4
    )


def announced(mount: Mounted, what: str) -> bool:
    return LINE.format(what) in (mount.path / "events").read_text()


def test_inotify_sees_an_expiry(mount: Mounted, work: Path) -> None:
    (work / "credentials" / "new").write_bytes(ending_in(2))
    with watching(work) as watch:
        (work / "settled").touch()  # what the store has caused is seen before this
        seen(watch, (IN_CREATE, b"settled"))
        while not announced(mount, "expired"):
            seen(watch, (IN_ATTRIB, b"ccache"))
    assert announced(mount, "expiring")
    assert (work / "credentials" / "host%2Fwww@KRBTEST.COM").exists()


def test_expiry_within_five_minutes_is_announced(mount: Mounted, work: Path) -> None:
    with watching(work) as watch:
        (work / "credentials" / "new").write_bytes(ending_in(200))
        while not announced(mount, "expiring"):
            seen(watch, (IN_ATTRIB, b"ccache"))
    assert not announced(mount, "expired")
