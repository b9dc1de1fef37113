# SPDX-License-Identifier: MIT
"""All ways to one store: FILE, DIR, KCM and the CCAPI to write, these and ls and cat to read.

Each way to write does all of it: ccaches, credentials, configuration, the KDC's offset, the
default, removing, destroying and moving.  FILE, DIR and KCM go through libkrb5 itself, wherever it
has a call for it.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccfs import ccapi as cc
from ccfs.format.ccache import Header, Prefix, decode_ccache, encode_prefix
from ccfs.format.config import config_key
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.names import encode_name
from ccfs.format.principal import parse_name, unparse_name
from ccfs.store.dir_names import ccache_name, listed_name
from tests.support import ccapi, kcm
from tests.support.mounting import Mounted, mounts

V5 = cc.cc_credentials_v5


ALICE, BOB = "alice@R", "bob@R"


ALICE, BOB = "alice@R", "bob@R"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is to be seen of a ccache."""

    principal: str
    servers: tuple[str, ...] = ()
    config: dict[str, bytes] = field(default_factory=dict)
    offset: int = 0


@dataclass(slots=True)
class State:
    """What is to be seen of the collection; `default` may be none of the ccaches."""

    default: str = "tkt"
    ccaches: dict[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KcmMount:
    """The mount, and libkrb5, which knows its socket."""

    mounted: Mounted
    socket: Path
    templates: Path
    krb5: Any

    @property
    def top(self) -> Path:
        return self.mounted.path

    def template(self, client: str, *servers: str) -> Path:
        """A FILE ccache elsewhere, from which credentials are taken."""
        made = encode_prefix(Prefix(Header(DIALECT_V4), parse_name(client.encode())))
        made += b"".join(kcm.credential(server, client=client) for server in servers)
        path = self.templates / "template"
        path.write_bytes(made)
        return path

    def credentials(self, client: str, *servers: str) -> list[Any]:
        """The same as libkrb5's own objects."""
        path = self.template(client, *servers)
        return list(self.open(f"FILE:{path}")[1])

    def open(self, residual: str) -> tuple[Any, Any]:
        """A ccache, in a context of its own: contexts take a ccache's offset over."""
        context = self.krb5.init_context()
        return context, self.krb5.cc_resolve(context, residual.encode())


@pytest.fixture(scope="module")
def kcm_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KcmMount]:
    krb5 = pytest.importorskip("krb5")
    directory = tmp_path_factory.mktemp("matrix")
    conf, socket = directory / "krb5.conf", directory / "kcm"
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {socket}\n")
    with pytest.MonkeyPatch.context() as patch, mounts() as maker:
        patch.setenv("KRB5_CONFIG", str(conf))
        patch.delenv("KRB5CCNAME", raising=False)
        mounted = maker.make("--kcm-socket", str(socket), "--no-journal")
        yield KcmMount(mounted, socket, directory, krb5)


class Writer:
    """Does what the steps want, in one way."""

    def __init__(self, kcm_mount: KcmMount) -> None:
        self.kcm_mount = kcm_mount

    def create(self, name: str, client: str, *servers: str) -> None:
        raise NotImplementedError

    def store(self, name: str, server: str) -> None:
        raise NotImplementedError

    def remove(self, name: str, server: str) -> None:
        raise NotImplementedError

    def set_config(self, name: str, key: str, value: bytes) -> None:
        raise NotImplementedError

    def set_offset(self, name: str, seconds: int) -> None:
        raise NotImplementedError

    def set_default(self, name: str) -> None:
        raise NotImplementedError

    def move(self, source: str, target: str) -> None:
        raise NotImplementedError

    def destroy(self, name: str) -> None:
        raise NotImplementedError


class ByLibrary(Writer):
    """What libkrb5 does in the same way, whatever the ccache is."""

    def residual(self, name: str) -> str:
        raise NotImplementedError

    def _open(self, name: str) -> tuple[Any, Any]:
        return self.kcm_mount.open(self.residual(name))

    def create(self, name: str, client: str, *servers: str) -> None:
        krb5, (context, ccache) = self.kcm_mount.krb5, self._open(name)
        krb5.cc_initialize(context, ccache, krb5.parse_name_flags(context, client.encode()))
        for one in self.kcm_mount.credentials(client, *servers):
            krb5.cc_store_cred(context, ccache, one)

    def store(self, name: str, server: str) -> None:
        (made,) = self.kcm_mount.credentials(ALICE, server)
        self.kcm_mount.krb5.cc_store_cred(*self._open(name), made)

    def remove(self, name: str, server: str) -> None:
        (made,) = self.kcm_mount.credentials(ALICE, server)
        none = self.kcm_mount.krb5.CredentialsRetrieveFlags.none
        self.kcm_mount.krb5.cc_remove_cred(*self._open(name), none, made)

    def set_config(self, name: str, key: str, value: bytes) -> None:
        self.kcm_mount.krb5.cc_set_config(*self._open(name), None, key.encode(), value)

    def destroy(self, name: str) -> None:
        self.kcm_mount.krb5.cc_destroy(*self._open(name))


class ByFile(ByLibrary):
    """caches/NAME/ccache."""

    def _path(self, name: str) -> Path:
        return self.kcm_mount.top / "caches" / encode_name(name.encode()) / "ccache"

    def residual(self, name: str) -> str:
        return f"FILE:{self._path(name)}"

    def create(self, name: str, client: str, *servers: str) -> None:
        self._path(name).parent.mkdir(exist_ok=True)
        super().create(name, client, *servers)

    def set_offset(self, name: str, seconds: int) -> None:
        """As a client has it in the header, which it writes but once."""
        path = self._path(name)
        old = decode_ccache(path.read_bytes())
        header = encode_prefix(Prefix(old.header.with_kdc_offset(seconds), old.principal))
        rest = path.read_bytes()[len(encode_prefix(Prefix(old.header, old.principal))) :]
        beside = path.with_name("ccache.new")
        beside.write_bytes(header + rest)
        beside.rename(path)

    def set_default(self, name: str) -> None:
        target = f"caches/{encode_name(name.encode())}"
        subprocess.run(["ln", "-sfn", target, str(self.kcm_mount.top / "default")], check=True)

    def move(self, source: str, target: str) -> None:
        old, new = self._path(source).parent, self._path(target).parent
        subprocess.run(["mv", "-T", str(old), str(new)], check=True)

    def destroy(self, name: str) -> None:
        """The default keeps its directory."""
        if os.readlink(self.kcm_mount.top / "default") == f"caches/{name}":
            super().destroy(name)
        else:
            self._path(name).parent.rmdir()


class ByDir(ByFile):
    """dir/tkt...: libkrb5 switches and destroys by itself."""

    def _path(self, name: str) -> Path:
        return self.kcm_mount.top / "dir" / os.fsdecode(listed_name(name.encode()))

    def residual(self, name: str) -> str:
        return f"DIR::{self._path(name)}"

    def create(self, name: str, client: str, *servers: str) -> None:
        ByLibrary.create(self, name, client, *servers)

    def set_default(self, name: str) -> None:
        self.kcm_mount.krb5.cc_switch(*self._open(name))

    def move(self, source: str, target: str) -> None:
        self._path(source).rename(self._path(target))

    def destroy(self, name: str) -> None:
        ByLibrary.destroy(self, name)


class ByKcm(ByLibrary):
    """KCM; what libkrb5's public calls don't do (offset, moving) is asked directly."""

    def residual(self, name: str) -> str:
        return f"KCM:{os.geteuid()}:{name}"

    def set_offset(self, name: str, seconds: int) -> None:
        with kcm.Client(self.kcm_mount.socket) as client:
            client.call(kcm.SET_KDC_OFFSET, client.name(name), kcm.u32(seconds))

    def set_default(self, name: str) -> None:
        self.kcm_mount.krb5.cc_switch(*self._open(name))

    def move(self, source: str, target: str) -> None:
        with kcm.Client(self.kcm_mount.socket) as client:
            client.call(kcm.MOVE_CACHE, client.name(source), client.name(target))


class ByCcapi(Writer):
    """The CCAPI."""

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[cc.CCache]:
        with cc.initialize(mount=self.kcm_mount.top) as context:
            yield context.open_ccache(name)

    def create(self, name: str, client: str, *servers: str) -> None:
        with cc.initialize(mount=self.kcm_mount.top) as context:
            ccache = context.create_ccache(name, V5, client)
            for server in servers:
                ccache.store_credentials(ccapi.credential(server, client=client))

    def store(self, name: str, server: str) -> None:
        with self._open(name) as ccache:
            ccache.store_credentials(ccapi.credential(server, client=ALICE))

    def remove(self, name: str, server: str) -> None:
        with self._open(name) as ccache:
            for one in list(ccache.new_credentials_iterator()):
                record = one.data.credentials_v5
                if record is not None and record.server == server:
                    ccache.remove_credentials(one)

    def set_config(self, name: str, key: str, value: bytes) -> None:
        """The CCAPI has none: it's a credential like any other."""
        server = f"krb5_ccache_conf_data/{key}@X-CACHECONF:"
        fields = dict.fromkeys(("authtime", "starttime", "endtime", "renew_till"), 0)
        made = ccapi.credential(server, client=ALICE, ticket=cc.cc_data(0, value), **fields)
        with self._open(name) as ccache:
            ccache.store_credentials(made)

    def set_offset(self, name: str, seconds: int) -> None:
        with self._open(name) as ccache:
            ccache.set_kdc_time_offset(V5, seconds % 2**32)

    def set_default(self, name: str) -> None:
        with self._open(name) as ccache:
            ccache.set_default()

    def move(self, source: str, target: str) -> None:
        """Onto one that is there, as the CCAPI has it."""
        with cc.initialize(mount=self.kcm_mount.top) as context:
            ccache = context.create_ccache(target, V5, BOB)
            context.open_ccache(source).move(ccache)

    def destroy(self, name: str) -> None:
        """The CCAPI has no default without content: its file goes."""
        with self._open(name) as ccache:
            default = ccache.get_name() == default_name(self.kcm_mount)
        if default:
            (self.kcm_mount.top / "caches" / name / "ccache").unlink()
            return
        with self._open(name) as ccache:
            ccache.destroy()


def default_name(kcm_mount: KcmMount) -> str:
    return os.readlink(kcm_mount.top / "default").removeprefix("caches/")


Reader = Any
"""Functions that read the State of a mount, by interface."""


def seen_in(data: bytes) -> Seen:
    """What the bytes of a ccache say."""
    held = decode_ccache(data)
    live = [c for c in held.credentials if c.times.authtime != 0xFFFFFFFF]
    keys = {id(c): config_key(c.server) for c in live}
    config = {k.key.decode(): c.ticket for c in live if (k := keys[id(c)])}
    servers = (unparse_name(c.server).decode() for c in live if keys[id(c)] is None)
    offset = held.header.kdc_offset
    principal = unparse_name(held.principal).decode()
    return Seen(principal, tuple(servers), config, offset[0] if offset else 0)


def by_file(kcm_mount: KcmMount) -> State:
    """Opening and reading each file."""
    files = {path.name: path / "ccache" for path in (kcm_mount.top / "caches").iterdir()}
    there = {name: seen_in(path.read_bytes()) for name, path in files.items() if path.exists()}
    return State(default_name(kcm_mount), there)


def by_dir(kcm_mount: KcmMount) -> State:
    """As DIR: has it."""
    paths = [path for path in (kcm_mount.top / "dir").iterdir() if path.name != "primary"]
    ccaches = {decoded(path.name): seen_in(path.read_bytes()) for path in paths}
    return State(decoded((kcm_mount.top / "dir/primary").read_text().strip()), ccaches)


def decoded(listed: str) -> str:
    found = ccache_name(os.fsencode(listed))
    assert found is not None
    return found.decode()


def by_library(kcm_mount: KcmMount, residual: str, name: str, offset: int) -> Seen:
    """What libkrb5 says of a ccache; it has no call for the offset."""
    krb5, (context, ccache) = kcm_mount.krb5, kcm_mount.open(residual)
    principal = str(krb5.cc_get_principal(context, ccache))
    servers = [str(one.server) for one in ccache if b"X-CACHECONF" not in str(one.server).encode()]
    config = {}
    for key in ("fast_avail", "pa_type"):
        with contextlib.suppress(krb5.Krb5Error):
            config[key] = bytes(krb5.cc_get_config(context, ccache, None, key.encode()))
    return Seen(principal, tuple(servers), config, offset)


def by_kcm(kcm_mount: KcmMount) -> State:
    """What the server lists, each read by libkrb5."""
    with kcm.Client(kcm_mount.socket) as client:
        names, default = client.ccaches(), client.default()
        offsets = [client.call(kcm.GET_KDC_OFFSET, client.name(name)) for name in names]
    ccaches = {}
    for name, offset in zip(names, offsets, strict=True):
        seconds = int.from_bytes(offset, "big", signed=True)
        ccaches[name] = by_library(kcm_mount, f"KCM:{os.geteuid()}:{name}", name, seconds)
    return State(default, ccaches)


def by_ccapi(kcm_mount: KcmMount) -> State:
    """As the CCAPI has it; configuration entries are credentials to it."""
    ccaches = {}
    with cc.initialize(mount=kcm_mount.top) as context:
        default = context.get_default_ccache_name()
        for one in context.new_ccache_iterator():
            servers, config = [], {}
            for found in one.new_credentials_iterator():
                record = found.data.credentials_v5
                assert record is not None
                assert record.server is not None
                name, _, realm = record.server.partition("@")
                if realm == "X-CACHECONF:":
                    config[name.split("/")[1]] = record.ticket.data
                else:
                    servers.append(record.server)
            offset = 0
            with contextlib.suppress(cc.CCAPIError):
                offset = (one.get_kdc_time_offset(V5) + 2**31) % 2**32 - 2**31
            principal = one.get_principal(V5)
            ccaches[one.get_name()] = Seen(principal, tuple(servers), config, offset)
    return State(default, ccaches)


def by_ls(kcm_mount: KcmMount) -> State:
    """Names alone: ls, and readlink."""
    ccaches = {}
    for name in output("ls", kcm_mount.top / "caches").split():
        place = kcm_mount.top / "caches" / name
        if "ccache" in output("ls", place).split():
            principal = output("cat", place / "principal").strip()
            servers = [
                s.replace("%2F", "/") for s in output("ls", "-U", place / "credentials").split()
            ]
            config = dict.fromkeys(output("ls", place / "config").split(), b"")
            ccaches[name] = Seen(principal, tuple(servers), config)
    return State(
        output("readlink", kcm_mount.top / "default").strip().removeprefix("caches/"), ccaches
    )


def by_cat(kcm_mount: KcmMount) -> State:
    """What the texts say."""
    ccaches = {}
    for place in (kcm_mount.top / "caches").iterdir():
        if "initialised: yes" in output("cat", place / "info"):
            ids = [line.split("\t")[1] for line in output("cat", place / "ids").splitlines()]
            servers = [i.partition("/")[2].replace("%2F", "/") for i in ids if i[:4] == "cred"]
            config = {i[7:]: output("cat", place / i).encode() for i in ids if i[:4] == "conf"}
            offset = output("cat", place / "kdc_offset").strip()
            principal = output("cat", place / "principal").strip()
            ccaches[place.name] = Seen(principal, tuple(servers), config, int(offset or 0))
    info = dict(line.split(": ", 1) for line in output("cat", kcm_mount.top / "info").splitlines())
    return State(info["default"], ccaches)


def output(*argv: str | Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        argv, check=True, capture_output=True, text=True, timeout=20, env=environment
    )
    return done.stdout


WRITERS = {"FILE": ByFile, "DIR": ByDir, "KCM": ByKcm, "CCAPI": ByCcapi}


READERS = {
    "FILE": by_file,
    "DIR": by_dir,
    "KCM": by_kcm,
    "CCAPI": by_ccapi,
    "ls": by_ls,
    "cat": by_cat,
}


@pytest.fixture
def empty(kcm_mount: KcmMount) -> KcmMount:
    """The mount without a ccache, whatever the test before has left."""
    for place in (kcm_mount.top / "caches").iterdir():
        place.rmdir()
    assert by_file(kcm_mount) == State()
    return kcm_mount
