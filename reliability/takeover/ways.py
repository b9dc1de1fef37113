# SPDX-License-Identifier: MIT
"""The eight ways to write: FILE twice, DIR, KCM twice, CCAPI, `credentials/`, and directory names.

Each knows how its kind of client stores, removes and looks, and nothing of what must be there.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import krb5

from ccfs import ccapi as cc
from reliability import writers
from reliability.takeover import contents
from reliability.takeover.contents import Servers
from reliability.takeover.recorder import SHARED, Recorder, Way
from tests.support import kcm
from tests.support.clients.python import records

MOST = writers.MOST
CLIENT = f"{records.CLIENT.decode()}@{records.REALM.decode()}"
SOMETIMES = 0.25
"""How many of the steps remove something, where a way removes at all."""
AES256 = records.AES256


class FileWay:
    """A step of reliability/writers.py in the file `ccache`; the base of the others."""

    def __init__(self, step: Callable[[writers.Writer], None]) -> None:
        self._step = step

    def step(self, writer: Recorder) -> None:
        self._step(writer)

    def look(self, writer: Recorder) -> Servers:
        return look_at(writer.ccache)

    def store_shared(self, writer: Recorder, server: str) -> None:
        writers.append_one(writer.shared / "ccache", records.record(server))

    def remove_shared(self, writer: Recorder, server: str) -> None:
        (writer.shared / "credentials" / credential_name(server)).unlink()


def look_at(file: Path) -> Servers:
    """The servers in a ccache's file, None where its directory has no such file."""
    return contents.servers_in(file.read_bytes()) if file.name in os.listdir(file.parent) else None


def credential_name(server: str) -> str:
    """The name that a server's credential has in `credentials/`."""
    return f"{quote(server, safe='')}@{records.REALM.decode()}"


class CredentialsWay(FileWay):
    """Files written to `credentials/`, and removed there."""

    def __init__(self) -> None:
        super().__init__(writers.store)

    def step(self, writer: Recorder) -> None:
        if writer.servers and writer.random.random() < SOMETIMES:
            gone = writer.random.choice(writer.servers)
            left = [server for server in writer.servers if server != gone]
            place = writer.directory / "credentials" / credential_name(gone)
            writer.attempt(place.unlink, left)
        else:
            super().step(writer)

    def store_shared(self, writer: Recorder, server: str) -> None:
        place = writer.shared / "credentials" / f"new-{writer.name}-{writer.steps}"
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            data = records.record(server)
            if os.write(descriptor, data) != len(data):
                raise OSError("cut short")
        finally:
            os.close(descriptor)


class DirWay(FileWay):
    """The real libkrb5 in the collection `dir/`: krb5_cc_initialize and krb5_cc_store_cred."""

    def __init__(self) -> None:
        super().__init__(self._by_libkrb5)
        self._context = krb5.init_context()
        self._client = krb5.parse_name_flags(self._context, CLIENT.encode())

    def look(self, writer: Recorder) -> Servers:
        return look_at(writer.mount / "dir" / f"tkt.{writer.name}")

    def _by_libkrb5(self, given: writers.Writer) -> None:
        if given.servers is None or len(given.servers) >= MOST:
            given.attempt(lambda: self._initialize(given), None, [])
            return
        server = given.new()
        given.attempt(lambda: self._store(given, given.name, server), [*given.servers, server])

    def _ccache(self, writer: writers.Writer, name: str) -> krb5.CCache:
        return krb5.cc_resolve(self._context, f"DIR::{writer.mount}/dir/tkt.{name}".encode())

    def _initialize(self, writer: writers.Writer) -> None:
        krb5.cc_initialize(self._context, self._ccache(writer, writer.name), self._client)

    def _store(self, writer: writers.Writer, name: str, server: str) -> None:
        ccache = self._ccache(writer, name)
        credential = krb5.unmarshal_credentials(self._context, records.record(server))
        krb5.cc_store_cred(self._context, ccache, credential)

    def store_shared(self, writer: Recorder, server: str) -> None:
        self._store(writer, SHARED, server)


class InterfaceWay:
    """Through an interface that has calls to initialize a ccache, to store and to remove."""

    def step(self, writer: Recorder) -> None:
        name, servers = writer.name, writer.servers
        if servers is None or len(servers) >= MOST:
            writer.attempt(lambda: self._initialize(name), [])
        elif servers and writer.random.random() < SOMETIMES:
            gone = writer.random.choice(servers)
            left = [server for server in servers if server != gone]
            writer.attempt(lambda: self._remove(name, gone), left)
        else:
            server = writer.new()
            writer.attempt(lambda: self._store(name, server), [*servers, server])

    def store_shared(self, writer: Recorder, server: str) -> None:
        self._store(SHARED, server)

    def remove_shared(self, writer: Recorder, server: str) -> None:
        self._remove(SHARED, server)

    def _initialize(self, name: str) -> None:
        raise NotImplementedError

    def _store(self, name: str, server: str) -> None:
        raise NotImplementedError

    def _remove(self, name: str, server: str) -> None:
        raise NotImplementedError


class KcmWay(InterfaceWay):
    """Raw KCM: on one connection for the whole run (`keep`), or on a new one for each request."""

    def __init__(self, socket: Path, *, keep: bool) -> None:
        self._socket = socket
        self._keep = keep
        self._client: kcm.Client | None = None

    def look(self, writer: Recorder) -> Servers:
        """By KCM and by FILE in turns."""
        if writer.steps % 2 or writer.servers is None:
            return look_at(writer.ccache)
        with self._connection() as client:
            listed = client.records(writer.name)
        return contents.servers_in(records.ccache([]) + b"".join(listed))

    def _initialize(self, name: str) -> None:
        with self._connection() as client:
            client.initialize(name, CLIENT)

    def _store(self, name: str, server: str) -> None:
        with self._connection() as client:
            client.store(name, records.record(server))

    def _remove(self, name: str, server: str) -> None:
        realm = records.REALM.decode()
        with self._connection() as client:
            wanted = kcm.tag(f"{server}@{realm}", client=CLIENT)
            client.call(kcm.REMOVE_CRED, client.name(name), kcm.u32(0), wanted)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[kcm.Client]:
        """A connection; the kept one is made anew only after it has failed, which is an error."""
        client = self._client or kcm.Client(self._socket)
        self._client = None
        try:
            yield client
        except kcm.RefusedError:
            self._client = client if self._keep else None
            raise
        except BaseException:
            client.close()
            raise
        if self._keep:
            self._client = client
        else:
            client.close()


class CcapiWay(InterfaceWay):
    """The CCAPI over the mount, with one context for the whole run."""

    def __init__(self, mount: Path) -> None:
        self._context = cc.initialize(mount=mount)

    def look(self, writer: Recorder) -> Servers:
        """By the CCAPI and by FILE in turns."""
        if writer.steps % 2 or writer.servers is None:
            return look_at(writer.ccache)
        ccache = self._context.open_ccache(writer.name)
        found = [union.data.credentials_v5 for union in ccache.new_credentials_iterator()]
        names = []
        for record in filter(None, found):
            name = (record.server or "").partition("@")[0]
            contents.check(name, record.keyblock.data, record.ticket.data)
            names.append(name)
        return names

    def _initialize(self, name: str) -> None:
        self._context.create_ccache(name, cc.cc_credentials_v5, CLIENT)

    def _store(self, name: str, server: str) -> None:
        self._context.open_ccache(name).store_credentials(union_of(server))

    def _remove(self, name: str, server: str) -> None:
        ccache = self._context.open_ccache(name)
        for credentials in ccache.new_credentials_iterator():
            record = credentials.data.credentials_v5
            if record and (record.server or "").startswith(f"{server}@"):
                ccache.remove_credentials(credentials)
                return
        raise FileNotFoundError(f"no credential of {server}")


def union_of(server: str) -> cc.cc_credentials_union:
    """The credential of records.py for a server, as the CCAPI has it."""
    key, ticket = records.secrets_of(server)
    authtime, starttime, endtime, renew_till = records.LIVE
    record = cc.cc_credentials_v5_t(
        client=CLIENT,
        server=f"{server}@{records.REALM.decode()}",
        keyblock=cc.cc_data(AES256, key),
        authtime=authtime,
        starttime=starttime,
        endtime=endtime,
        renew_till=renew_till,
        is_skey=0,
        ticket_flags=0x40000000,
        addresses=[],
        ticket=cc.cc_data(0, ticket),
        second_ticket=cc.cc_data(0, b""),
        authdata=[],
    )
    return cc.cc_credentials_union(cc.cc_credentials_v5, record)


class NamesWay(FileWay):
    """Directories in `caches/`: mkdir, rename, rmdir.  Its "servers" are their names, sorted."""

    def __init__(self) -> None:
        super().__init__(self._change)

    def look(self, writer: Recorder) -> Servers:
        prefix = f"{writer.name}-"
        return sorted(n for n in os.listdir(writer.mount / "caches") if n.startswith(prefix))

    def _change(self, given: writers.Writer) -> None:
        caches, have = given.mount / "caches", given.servers or []
        new = f"{given.name}-{given.number:08}"
        given.number += 1
        chance = given.random.random()
        if have and (chance < SOMETIMES or len(have) > 8):
            gone = given.random.choice(have)
            given.attempt((caches / gone).rmdir, [name for name in have if name != gone])
        elif have and chance < 2 * SOMETIMES:
            old = given.random.choice(have)
            after = sorted([new, *(name for name in have if name != old)])
            given.attempt(lambda: os.rename(caches / old, caches / new), after)
        else:
            given.attempt((caches / new).mkdir, sorted([*have, new]))


def all_ways(mount: Path, socket: Path | None) -> dict[str, Callable[[], Way]]:
    """The ways by the names of their writers; each is made in the process that uses it."""
    ways: dict[str, Callable[[], Way]] = {
        "append": lambda: FileWay(writers.append),
        "replace": lambda: FileWay(writers.replace),
        "dir": DirWay,
        "ccapi": lambda: CcapiWay(mount),
        "credentials": CredentialsWay,
        "names": NamesWay,
    }
    if socket is not None:
        ways["kcm-kept"] = lambda: KcmWay(socket, keep=True)
        ways["kcm-anew"] = lambda: KcmWay(socket, keep=False)
    return ways
