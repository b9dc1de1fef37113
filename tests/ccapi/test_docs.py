# SPDX-License-Identifier: MIT
"""Every line of the table in docs/user/ccapi.md, run in a shell, and what it must have done."""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ccfs import ccapi as cc
from ccfs.ccapi import v2
from tests.support.ccapi import ALICE, BOB, V5, credential, eventually, refuses, servers
from tests.support.mounting import Mounted
from tests.support.paths import PROJECT

pytest_plugins = ["tests.support.ccapi_fixtures"]

DOCUMENT = PROJECT / "docs/user/ccapi.md"
ROW = re.compile(r"^\| (.*?) ?\| (.*?) ?\| `(.*)` \|$")
CALL = re.compile(r"`(cc_\w+)`")
SERVER = "http/www.example.com@EXAMPLE.COM"


@dataclass(frozen=True)
class Row:
    """One line of the table: names of v3 and v2, and what to type."""

    v3: tuple[str, ...]
    v2: tuple[str, ...]
    command: str

    @property
    def name(self) -> str:
        """What it is called first."""
        return (self.v3 + self.v2)[0]


def rows() -> list[Row]:
    """The table's lines."""
    found = (ROW.match(line) for line in DOCUMENT.read_text().splitlines())
    return [
        Row(tuple(CALL.findall(row[1])), tuple(CALL.findall(row[2])), row[3])
        for row in found
        if row
    ]


def lock_program() -> str:
    """The program that the document calls LOCK."""
    text = DOCUMENT.read_text()
    lines = text[text.index("    import fcntl") :].splitlines()
    return "\n".join(line.strip() for line in lines[:2])


class Place:
    """A default ccache of alice's, and `work` with two credentials."""

    def __init__(self, mounted: Mounted, context: cc.Context) -> None:
        self.mounted, self.context = mounted, context
        self.tkt = context.create_default_ccache(V5, ALICE)
        self.work = context.create_ccache("work", V5, ALICE)
        for server in (SERVER, "host/x@R"):
            self.work.store_credentials(credential(server))
        self.work.set_kdc_time_offset(V5, 7)
        self.ident = self.info("caches/work/info", "id")
        self.creds = [line.split("\t")[0] for line in self.lines("caches/work/ids")]

    def lines(self, name: str) -> list[str]:
        """The lines of a file."""
        return (self.mounted.path / name).read_text().splitlines()

    def info(self, name: str, key: str) -> str:
        """A value of an info file."""
        return dict(line.partition(": ")[::2] for line in self.lines(name))[key]

    def start(self, command: str) -> subprocess.Popen[str]:
        """Type a line."""
        names = {"M": str(self.mounted.path), "ID": self.ident, "CRED": self.creds[0]}
        return subprocess.Popen(
            ["sh", "-ec", command],
            env=os.environ | names | {"LOCK": lock_program()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> str:
        """Type a line and read what it says."""
        with self.start(command) as process:
            try:
                said, complaint = process.communicate(timeout=30)
            finally:
                process.kill()
        assert (process.returncode, complaint) == (0, "")
        return said.rstrip("\n")


@pytest.fixture
def place(served: Mounted, context: cc.Context) -> Place:
    """A collection to type at."""
    return Place(served, context)


def created(place: Place, ident: str, name: str) -> bool:
    """Whether a ccache of bob's has the identifier."""
    made = place.context.open_ccache(name)
    return (place.info(f"caches/{name}/info", "id"), made.get_principal(V5)) == (ident, BOB)


def first(place: Place) -> cc.CCache:
    """The first ccache of the list."""
    return place.context.new_ccache_iterator().next()


CHECKS: dict[str, Callable[[Place, str], bool]] = {
    "cc_initialize": lambda p, said: "fuse.ccfs" in said,
    "cc_context_get_change_time": lambda p, said: int(said) == p.context.get_change_time(),
    "cc_context_get_default_ccache_name": lambda p, said: said == "tkt",
    "cc_context_open_ccache": lambda p, said: said == p.ident,
    "cc_context_open_default_ccache": lambda p, said: said == p.info("caches/tkt/info", "id"),
    "cc_context_create_ccache": lambda p, said: created(p, said, "work") and said == p.ident,
    "cc_context_create_default_ccache": lambda p, said: created(p, said, "tkt"),
    "cc_context_create_new_ccache": lambda p, said: created(
        p, said, p.info(f"by-id/{said}/info", "name")
    ),
    "cc_context_new_ccache_iterator": lambda p, said: (
        said.split() == [p.info("default/info", "id"), p.ident]
    ),
    "cc_context_compare": lambda p, said: said == p.context._state.finder.require().identity,
    "cc_ccache_iterator_next": lambda p, said: said == "work",
    "cc_ccache_iterator_clone": lambda p, said: said.split("\n")[0].split()[1] == p.ident,
    "cc_ccache_destroy": lambda p, said: (
        [c.get_name() for c in p.context.new_ccache_iterator()] == ["tkt"]
    ),
    "cc_ccache_set_default": lambda p, said: first(p).compare(p.work),
    "cc_ccache_get_credentials_version": lambda p, said: said == "yes",
    "cc_ccache_get_name": lambda p, said: said == p.work.get_name(),
    "cc_ccache_get_principal": lambda p, said: said == p.work.get_principal(V5),
    "cc_ccache_set_principal": lambda p, said: p.work.get_principal(V5) == BOB,
    "cc_ccache_store_credentials": lambda p, said: servers(p.tkt) == [SERVER],
    "cc_ccache_remove_credentials": lambda p, said: servers(p.work) == ["host/x@R"],
    "cc_ccache_new_credentials_iterator": lambda p, said: said.split() == p.creds,
    "cc_ccache_move": lambda p, said: (
        servers(p.tkt) == [SERVER, "host/x@R"] and len(list(p.context.new_ccache_iterator())) == 1
    ),
    "cc_ccache_get_last_default_time": lambda p, said: int(said) == p.tkt.get_last_default_time(),
    "cc_ccache_get_change_time": lambda p, said: int(said) == p.work.get_change_time(),
    "cc_ccache_compare": lambda p, said: said == p.ident,
    "cc_ccache_get_kdc_time_offset": lambda p, said: said == "7",
    "cc_ccache_set_kdc_time_offset": lambda p, said: p.work.get_kdc_time_offset(V5) == 60,
    "cc_ccache_clear_kdc_time_offset": lambda p, said: (
        p.info("caches/work/info", "kdc_offset") == ""
    ),
    "cc_credentials_iterator_next": lambda p, said: f"Server: {SERVER}" in said.split("\n"),
    "cc_credentials_iterator_clone": lambda p, said: said.split() == p.creds * 2,
    "cc_credentials_compare": lambda p, said: said == p.creds[0],
    "cc_get_NC_info": lambda p, said: said.count("principal: " + ALICE) == 2,
}
NOTHING_TO_SEE = {
    "cc_context_release",
    "cc_ccache_iterator_release",
    "cc_ccache_release",
    "cc_credentials_iterator_release",
    "cc_credentials_release",
    "cc_string_release",
    "cc_free_NC_info",
}
LOCKING = {"cc_context_lock", "cc_ccache_lock", "cc_lock_request"}
UNLOCKING = {"cc_context_unlock": "cc_context_lock", "cc_ccache_unlock": "cc_ccache_lock"}
WAITING = {"cc_context_wait_for_change", "cc_ccache_wait_for_change"}


def named(*names: str) -> pytest.MarkDecorator:
    """Run a test for the lines of some calls."""
    chosen = [row for row in rows() if row.name in names]
    assert {row.name for row in chosen} == set(names)
    return pytest.mark.parametrize("row", chosen, ids=[row.name for row in chosen])


def test_document_lines_are_all_in_tables() -> None:
    """A new line has to be put into one of the tables here."""
    assert {row.name for row in rows()} == {
        *CHECKS,
        *NOTHING_TO_SEE,
        *LOCKING,
        *UNLOCKING,
        *WAITING,
    }


def test_document_has_line_for_each_call() -> None:
    """A new method has to be put into the document."""
    documented = {name for row in rows() for name in (*row.v3, *row.v2)}
    tables = {
        "cc_context_": cc.Context,
        "cc_ccache_": cc.CCache,
        "cc_credentials_": cc.Credentials,
        "cc_ccache_iterator_": cc.CCacheIterator,
        "cc_credentials_iterator_": cc.CredentialsIterator,
    }
    wanted = {
        prefix + name
        for prefix, table in tables.items()
        for name in dir(table)
        if not name.startswith("_") and callable(getattr(table, name)) and name != "ident_on"
    }
    wanted |= {name for name in dir(v2) if name.startswith("cc_")} - {"cc_credentials_union"}
    wanted -= {"cc_credentials_v5", "cc_credentials_v5_t"}
    assert wanted <= documented
    assert documented - wanted <= {"cc_initialize", "cc_string_release"}


@named(*CHECKS)
def test_document_line_names_the_file_operations(place: Place, row: Row) -> None:
    assert CHECKS[row.name](place, place.run(row.command))


@named(*NOTHING_TO_SEE)
def test_document_lines_of_release(place: Place, row: Row) -> None:
    before = place.context.get_change_time()
    assert place.run(row.command) == ""
    assert place.context.get_change_time() == before


def lockable(place: Place, row: Row) -> cc.Context | cc.CCache:
    """What a line locks or unlocks."""
    return place.context if row.name.startswith("cc_context_") else place.work


@contextlib.contextmanager
def shell_after(place: Place, *commands: str) -> Iterator[None]:
    """A shell that has run some lines and goes on holding what they left it."""
    with place.start("; ".join((*commands, "echo done", "exec sleep 60"))) as shell:
        try:
            assert shell.stdout is not None
            assert shell.stdout.readline() == "done\n"
            yield
        finally:
            shell.kill()


@named(*LOCKING)
def test_document_lines_of_lock(place: Place, row: Row) -> None:
    locked = lockable(place, row)
    busy = cc.ccErrContextLocked if locked is place.context else cc.ccErrCCacheLocked
    with shell_after(place, row.command):
        refuses(busy, locked.lock, cc.cc_lock_read, cc.cc_lock_noblock)
    locked.lock(cc.cc_lock_read, cc.cc_lock_noblock)


@named(*UNLOCKING)
def test_document_lines_of_unlock(place: Place, row: Row) -> None:
    lock = next(other.command for other in rows() if other.name == UNLOCKING[row.name])
    with shell_after(place, lock, row.command):
        lockable(place, row).lock(cc.cc_lock_write, cc.cc_lock_noblock)


@named(*WAITING)
def test_document_lines_of_wait(place: Place, row: Row) -> None:
    with place.start(row.command) as process:
        try:
            eventually(lambda: changed_and_ended(place, process))
            assert process.returncode == 0
        finally:
            process.kill()


def changed_and_ended(place: Place, process: subprocess.Popen[str]) -> bool:
    """Make a change; whether who waits for one has gone on."""
    place.work.set_principal(V5, BOB)
    return process.poll() is not None
