# SPDX-License-Identifier: MIT
"""Random bytes through the format: nothing but FormatError may come out of it.

    python -m reliability.fuzz_codec --count 1000000 [--seed N] [--keep DIRECTORY]
    python -m reliability.fuzz_codec --atheris --count 200000

Inputs are mutations of ccaches that other programs wrote, and of those among their mutations that
took the codec somewhere new (another outcome, a new place to stop at).  `--keep` writes these into
a directory.  With `--atheris` libFuzzer chooses the inputs by the branches that they take (`pip
install atheris`).
"""

import contextlib
import hashlib
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ccfs.format.ccache import decode_ccache, encode_ccache, scan_prefix
from ccfs.format.config import config_key
from ccfs.format.credential import Credential, decode_credential, encode_credential, scan_credential
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from ccfs.format.outline import removed_at
from ccfs.format.principal import parse_name, unparse_name
from ccfs.format.removed_record import is_removed, placeholder_record
from ccfs.format.text import credential_text, principal_text
from ccfs.format.ticket import ticket_info
from ccfs.store.ccache_scan import is_whole
from ccfs.store.record_names import describe
from reliability.fuzzing import argument_parser, peak
from tests.support.mutations import (
    big_endian,
    insert,
    insert_random,
    mutate,
    overwrite,
    remove,
    replace_byte,
    splice,
    truncate,
)
from tests.support.paths import PROJECT, VECTORS

CORPUS = PROJECT / "tests/corpus"
LIMIT = 8 << 20
LARGEST = 4096
"""Bytes of an input: more would find nothing more, and take longer."""
POOL = 4000

Signature = tuple[str, ...]


def check(data: bytes) -> Signature:
    """Take bytes through everything; returns where they got to.

    Raises whatever a bug raises, AssertionError where two parts disagree.
    """
    return (*check_ccache(data), check_scan(data), check_text(data))


def stop(error: FormatError) -> str:
    """Where the codec stopped, whatever the numbers."""
    return re.sub("[0-9]+", "N", error.expected)


def check_ccache(data: bytes) -> Signature:
    """Check that decodable bytes encode to themselves and have a text."""
    try:
        ccache = decode_ccache(data)
    except FormatError as error:
        assert not is_whole(data, LIMIT), "whole, and not decodable"
        return ("refused", stop(error))
    assert encode_ccache(ccache) == data, "another encoding"
    assert is_whole(data, LIMIT), "decodable, and not whole"
    principal_text(ccache.principal)
    shapes = {check_credential(one, ccache.header.dialect) for one in ccache.credentials}
    return ("decoded", str(ccache.header.dialect.version), *sorted(shapes))


def check_credential(credential: Credential, dialect: Dialect) -> str:
    """A credential has one encoding, a text, a name, and a record that removes it."""
    record = encode_credential(credential, dialect)
    assert decode_credential(record, dialect) == (credential, len(record))
    assert scan_credential(record, 0, dialect, LIMIT) == len(record)
    text = credential_text(credential, "1f")
    assert text.count(b"\n") == 16, "a line that was forged"
    described = describe(record, dialect)
    assert "/" not in described.stem
    assert "\n" not in described.stem
    removed = removed_at(record, 0, dialect)
    assert removed == is_removed(credential)
    blank = placeholder_record(record, dialect)
    assert len(blank) == len(record)
    assert removed_at(blank, 0, dialect)
    info = ticket_info(credential.ticket)
    return f"{removed}{described.config}{info is not None}{len(credential.addresses) > 0}"


def check_scan(data: bytes) -> str:
    """Check that the scan of a growing file agrees with the decoder."""
    try:
        found = scan_prefix(data, LIMIT)
        if found is None:
            return "no prefix yet"
        prefix, at = found
        while (end := scan_credential(data, at, prefix.header.dialect, LIMIT)) is not None:
            assert at < end <= len(data)
            assert decode_credential(data, prefix.header.dialect, at)[1] == end
            at = end
            if at == len(data):
                return "complete"
    except FormatError as error:
        return stop(error)
    return "a tail"


def check_text(data: bytes) -> str:
    """Names and principals from the same bytes; each has one encoding."""
    said = []
    ticket_info(data)
    with contextlib.suppress(FormatError):
        name = encode_name(data[:64])
        assert decode_name(name) == data[:64]
        said.append("name")
    with contextlib.suppress(FormatError, UnicodeDecodeError):
        text = data[:64].decode("utf-8")
        assert encode_name(decode_name(text)) == text
        said.append("encoded")
    with contextlib.suppress(FormatError):
        principal = parse_name(data[:256])
        assert parse_name(unparse_name(principal)) == principal
        config_key(principal)
        said.append("principal")
    return " ".join(said)


class Mutator:
    """Makes inputs from a pool that grows by those that got somewhere new."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.pool = [*seeds()]
        self._seen = {check(data) for data in self.pool}
        self._changes = (*CHANGES, splice(self.pool, 600), insert(WORDS))
        self.found: list[bytes] = []

    def one(self) -> bytes:
        """The next input, checked; AssertionError, or what a bug raises, names it."""
        data = self._mutated()
        try:
            signature = check(data)
        except Exception as error:
            error.add_note(f"input: {data.hex()}")
            raise
        if signature not in self._seen and len(self.pool) < POOL:
            self._seen.add(signature)
            self.pool.append(data)
            self.found.append(data)
        return data

    def _mutated(self) -> bytes:
        choose = self._random
        data = bytearray(choose.choice(self.pool))
        for _ in range(choose.choice((1, 1, 1, 2, 3, 6))):
            mutate(data, choose, self._changes)
        return bytes(data[:LARGEST])


NUMBERS = big_endian(
    *(0, 1, 2, 4, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 1 << 24, 1 << 31, 0xFFFFFFFF)
)
WORDS = [
    b"X-CACHECONF:",
    b"krb5_ccache_conf_data",
    b"X-RMED-CONF:",
    b"\x05\x01",
    b"\x05\x02",
    b"\x05\x03",
    b"\x05\x04",
    b"\0" * 8,
    b"/",
    b"@",
    b"\\0",
    b"%2F",
    b"\xc2\x85",
    b"\xff\xff\xff\xff" + bytes(12),
]


CHANGES = (
    replace_byte,
    overwrite(NUMBERS),
    overwrite([number[2:] for number in NUMBERS]),
    remove((1, 2, 4, 8, 40)),
    insert_random((1, 2, 4, 20)),
    truncate,
)


def seeds() -> Iterator[bytes]:
    """The vectors, and what earlier runs have kept."""
    for directory in (VECTORS, CORPUS):
        for path in sorted(directory.iterdir()):
            if path.suffix in (".ccache", ".input"):
                yield path.read_bytes()


def run(count: int, seed: int) -> Mutator:
    """Check `count` inputs; raises for the first that breaks something."""
    mutator = Mutator(seed)
    before = peak()
    for number in range(1, count + 1):
        mutator.one()
        if number == count // 10:
            before = peak()
        if number % 100_000 == 0:
            print(
                f"{number} inputs, {len(mutator.pool)} in the pool, peak {peak()} KiB", flush=True
            )
    print(f"{count} inputs: nothing but FormatError; peak memory {before} -> {peak()} KiB")
    return mutator


def run_atheris(count: int) -> None:
    """Have libFuzzer choose the inputs; ends the process."""
    import atheris

    for name in [name for name in sys.modules if name.startswith("ccfs.format")]:
        module = sys.modules[name]
        for key, value in list(vars(module).items()):
            if getattr(value, "__module__", None) == name and hasattr(value, "__code__"):
                atheris.instrument_func(value)
                assert vars(module)[key] is value
    directories = [str(CORPUS), str(VECTORS)]
    options = [f"-runs={count}", f"-max_len={LARGEST}", "-rss_limit_mb=512", "-timeout=10"]
    # The first directory is where libFuzzer writes what it finds: an empty one, not ours.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ccfs-fuzz-") as found:
        atheris.Setup(
            [sys.argv[0], *options, found, *directories], lambda data: check(data) and None
        )
        atheris.Fuzz()


def main() -> None:
    """The command line."""
    parser = argument_parser(__doc__, 1_000_000)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY")
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args()
    if given.atheris:
        run_atheris(given.count)
        return
    mutator = run(given.count, given.seed)
    for data in mutator.found if given.keep else ():
        name = hashlib.sha256(data).hexdigest()[:12]
        (given.keep / f"{name}.input").write_bytes(data)


if __name__ == "__main__":
    main()
