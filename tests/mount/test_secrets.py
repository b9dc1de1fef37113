# SPDX-License-Identifier: MIT
"""Known secrets are looked for wherever they must not be, in whatever form bytes are printed."""

import base64
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.format.ccache import decode_ccache
from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.text import credential_text
from ccfs.store.errors import StoreError
from tests.support.clients.python import records
from tests.support.mounting import Mounted
from tests.support.storing import appender, current, fill, new_store

SERVERS = ["host/one", "host/two"]
IMAGE = records.ccache(SERVERS)
RECORD = records.record("host/three")
WINDOW = 6
"""So many bytes of a secret in a row are no coincidence."""


def forms(secret: bytes) -> Iterator[bytes]:
    """What a piece of a secret looks like: itself, hexadecimal, base64, Python's and JSON's way."""
    for at in range(len(secret) - WINDOW + 1):
        piece = secret[at : at + WINDOW]
        yield piece
        yield piece.hex().encode()
        yield repr(piece)[2:-1].encode()
        yield piece.decode(errors="backslashreplace").encode()
    for at in range(3):
        whole = secret[at : at + 3 * ((len(secret) - at) // 3)]
        encoded = base64.b64encode(whole)
        yield from (encoded[i : i + 8] for i in range(len(encoded) - 7))


FORBIDDEN = {
    form
    for server in [*SERVERS, "host/three"]
    for secret in records.secrets_of(server)
    for form in forms(secret)
}


def clean(said: bytes | str, where: object = "") -> bool:
    """Whether no secret is in what was said; fails with the place, never with the secret."""
    data = said.encode(errors="surrogateescape") if isinstance(said, str) else said
    lowered = data.lower()
    for form in FORBIDDEN:
        if form in data or form in lowered:
            pytest.fail(f"a secret is in {where or 'it'}", pytrace=False)
    return True


def test_finder_finds_secrets() -> None:
    """It finds what is there."""
    key, ticket = records.secrets_of("host/one")
    for said in (IMAGE, key.hex(), key.hex().upper(), repr(ticket), base64.b64encode(b"x" + key)):
        with pytest.raises(pytest.fail.Exception):
            clean(said)
    assert clean(records.ccache([]))


def public(top: Path) -> Iterator[Path]:
    """Every file that is listed and isn't for secrets."""
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            secret = name == "ccache" or path.parent == top / "dir" or name == "default"
            if stat.S_ISREG(path.lstat().st_mode) and not secret:
                yield path


def provoke(top: Path) -> list[str]:
    """Do what is refused, with secrets in it; returns what the errors say."""
    said = []
    attempts = [
        (top / "caches/tkt/credentials/x", RECORD + RECORD[:100]),
        (top / "caches/tkt/credentials/y", b"\xff" + RECORD),
        (top / "caches/tkt/principal", RECORD),
        (top / "caches/tkt/kdc_offset", RECORD[:200]),
        (top / "new", b"new " + RECORD),
        (top / "dir/primary", RECORD[60:90]),
        (top / "caches/tkt/ccache", IMAGE + RECORD[100:]),
        (top / "dir/tktnew", RECORD),
        (top / "caches/tkt/lock", RECORD),
        (top / "stats", RECORD),
    ]
    for path, data in attempts:
        try:
            path.write_bytes(data)
        except OSError as error:
            said.append(repr(error))
    return said


@pytest.mark.parametrize("mount", [("--debug",)], indirect=True)
@pytest.mark.expects_warnings
def test_mount_shows_no_secret(mount: Mounted) -> None:
    """Not in a text, an event, the log (with --debug), an error, or what /proc shows."""
    top = mount.path
    (top / "caches/tkt/ccache").write_bytes(IMAGE)
    (top / "caches/tkt/credentials/new").write_bytes(RECORD)
    assert len(provoke(top)) >= 6
    assert all(clean(error) for error in provoke(top))
    (top / "caches/tkt/ccache").write_bytes(IMAGE)
    (top / "caches/tkt/credentials/host%2Ftwo@KRBTEST.COM").unlink()
    paths = [*public(top)]
    assert len(paths) >= 12
    assert all(clean(path.read_bytes(), path) for path in paths)
    for command in (["status"], ["status", "--json"], ["list"], ["list", "--json"], ["doctor"]):
        done = mount.ccfs(*command)
        assert clean(done.stdout + done.stderr, command)
    for pid in family(mount.pid):
        for name in ("environ", "cmdline", "comm", "status"):
            assert clean(Path(f"/proc/{pid}/{name}").read_bytes(), f"{name} of {pid}")
    assert clean(mount.log.read_bytes(), "the log")
    assert b"WRITE" in mount.log.read_bytes()  # libfuse's own log of requests was on


def family(pid: int) -> list[int]:
    """A process and its children."""
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]
    return [pid]


def test_values_show_no_secret() -> None:
    """However they are printed: a failing assertion shows them."""
    ccache = decode_ccache(IMAGE)
    for credential in ccache.credentials:
        assert clean(f"{credential!r} {credential} {credential.keyblock!r}")
        assert clean(credential_text(credential, "1f"))
    assert clean(repr(ccache))
    store = new_store()
    kept = fill(store, IMAGE)
    for value in (kept, current(kept), kept.image, *kept.credentials.values(), store):
        assert clean(f"{value!r} {value}")


def test_format_errors_show_no_secret() -> None:
    """Wherever the bytes end, and whatever byte of them is wrong."""
    errors: set[str] = set()
    for at in range(len(RECORD)):
        for data in (RECORD[:at], RECORD[:at] + b"\xff" + RECORD[at + 1 :]):
            try:
                credential, _ = decode_credential(data, DIALECT_V4)
                encode_credential(credential, DIALECT_V4)
            except FormatError as error:
                errors |= {str(error), repr(error), repr(error.args)}
    assert len(errors) > 100
    assert clean("\n".join(sorted(errors)))


def test_store_errors_show_no_secret() -> None:
    store = new_store()
    kept = fill(store, IMAGE)
    errors: set[str] = set()
    for at in range(0, len(RECORD), 3):
        file = appender(store, current(kept))
        try:
            store.open_files.write(file, 0, RECORD[:at] + b"\xff" * 8 + RECORD[at:], 1.7e9)
        except StoreError as error:
            errors |= {str(error), repr(error)}
        store.close(file, 1.7e9)
    assert errors
    assert clean("\n".join(sorted(errors)))
    text = store.events.read(store.events.edition, 0, 1 << 30)
    assert clean(text)
