# SPDX-License-Identifier: MIT
"""A real KDC on loopback, once for a test session.

This file knows principals, keytabs and krb5.conf; it never knows where a test keeps its ccache.
The KDC is MIT's, set up by k5test in a directory of its own on tmpfs. It dies with the process
that started it, however that ends.
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from k5test import K5Realm

from tests.support.require import require

REALM = "KRBTEST.COM"
USERS = ("alice", "bob", "carol")
SERVICES = ("HTTP/localhost", "host/localhost")
START_SECONDS = 20
MIT_INSTALL = "apt-get install krb5-kdc krb5-admin-server krb5-user libkrb5-dev"
TMPFS = "/dev/shm"
# krb5-config is what k5test finds the KDC's plugins by
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "kvno", "krb5-config")

# The lifetime stays well below what the KDC grants at most: exactly at that limit a ticket
# turns renewable or not by the second.
LIBDEFAULTS = {
    "default_realm": REALM,
    "dns_lookup_kdc": "false",
    "dns_lookup_realm": "false",
    "dns_canonicalize_hostname": "false",
    "rdns": "false",
    "forwardable": "true",
    "ticket_lifetime": "8h",
    "renew_lifetime": "2d",
}


@dataclass(frozen=True, slots=True)
class Kdc:
    """A running KDC: its realm's principals, their keys, and the configuration of its clients.

    `keytab` holds the keys of USERS, `service_keytab` those of SERVICES. `mit_conf` is read by
    MIT, Java and Go, `heimdal_conf` by Heimdal. `passwords` are those of USERS.
    """

    directory: Path
    port: int
    keytab: Path
    service_keytab: Path
    mit_conf: Path
    heimdal_conf: Path
    passwords: dict[str, str] = field(repr=False)

    @property
    def realm(self) -> str:
        return REALM

    def principal(self, name: str) -> str:
        return f"{name}@{REALM}"

    def environment(self, ccname: str | None = None, *, heimdal: bool = False) -> dict[str, str]:
        """The whole environment of a client of this KDC; nothing of the caller's gets in."""
        conf = self.heimdal_conf if heimdal else self.mit_conf
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.directory),
            "LC_ALL": "C",
            "TZ": "UTC",
            "KRB5_CONFIG": str(conf),
            "KRB5RCACHEDIR": str(self.directory),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if ccname is not None:
            environment["KRB5CCNAME"] = ccname
        return environment


@pytest.fixture(scope="session")
def kdc() -> Iterator[Kdc]:
    """The session's KDC."""
    programs = require("MIT Kerberos", MIT_INSTALL, PROGRAMS)
    with running_kdc(programs["krb5kdc"]) as running:
        yield running


@contextlib.contextmanager
def running_kdc(krb5kdc: str, *options: str) -> Iterator[Kdc]:
    """Set up a realm, serve it, and leave nothing of it behind."""
    parent = TMPFS if os.access(TMPFS, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="ccfs-kdc-", dir=parent) as directory,
        reserved_port() as (port, release),
    ):
        realm = make_realm(Path(directory), port)
        made = describe(realm, Path(directory), port)
        release()
        with serving([krb5kdc, "-n", *options], realm.env):
            yield made


def make_realm(directory: Path, port: int) -> K5Realm:
    """Make the realm's database and principals; what k5test makes goes below `directory`."""
    listen = "127.0.0.1:$port0"
    before, tempfile.tempdir = tempfile.tempdir, str(directory)
    try:
        return K5Realm(
            realm=REALM,
            portbase=port,
            krb5_conf={
                "libdefaults": {**LIBDEFAULTS, "qualify_shortname": '""'},
                "realms": {"$realm": {"kdc": listen}},
            },
            kdc_conf={
                "realms": {
                    "$realm": {
                        "kdc_ports": None,
                        "kdc_tcp_ports": None,
                        "kdc_listen": listen,
                        "kdc_tcp_listen": listen,
                        "default_principal_flags": "+preauth",
                    }
                }
            },
            create_user=False,
            create_host=False,
            get_creds=False,
            start_kdc=False,
        )
    finally:
        tempfile.tempdir = before


def describe(realm: K5Realm, directory: Path, port: int) -> Kdc:
    """Add the principals, write the keytabs and Heimdal's configuration."""
    passwords = {user: realm.password(user) for user in USERS}
    keytab, service_keytab = directory / "users.keytab", directory / "services.keytab"
    for user, password in passwords.items():
        realm.addprinc(user, password)
        realm.extract_keytab(user, str(keytab))
    for service in SERVICES:
        realm.addprinc(service)
        realm.extract_keytab(service, str(service_keytab))
    heimdal_conf = directory / "heimdal.conf"
    heimdal_conf.write_text(heimdal_configuration(port))
    return Kdc(
        directory=directory,
        port=port,
        keytab=keytab,
        service_keytab=service_keytab,
        mit_conf=Path(realm.env["KRB5_CONFIG"]),
        heimdal_conf=heimdal_conf,
        passwords=passwords,
    )


def heimdal_configuration(port: int) -> str:
    """krb5.conf as Heimdal reads it; the options it doesn't know are harmless to it."""
    defaults = "".join(f"\t{key} = {value}\n" for key, value in LIBDEFAULTS.items())
    realms = f"\t{REALM} = {{\n\t\tkdc = 127.0.0.1:{port}\n\t}}\n"
    return f"[libdefaults]\n{defaults}[realms]\n{realms}"


@contextlib.contextmanager
def reserved_port() -> Iterator[tuple[int, Callable[[], None]]]:
    """A port free for TCP and UDP on loopback, held until the second value is called."""
    with contextlib.ExitStack() as held:
        for _ in range(20):
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield port, held.close
            return
        pytest.fail("no port is free for both TCP and UDP on loopback")


@contextlib.contextmanager
def serving(argv: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run the KDC until the block ends."""
    setpriv = shutil.which("setpriv")
    guarded = [setpriv, "--pdeathsig", "TERM", *argv] if setpriv else argv
    server = subprocess.Popen(
        guarded,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        await_line(server, b"starting...")
        yield
    finally:
        server.terminate()
        try:
            server.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def await_line(process: "subprocess.Popen[bytes]", wanted: bytes) -> bytes:
    """Read the process's output until `wanted` is in it; fail when it ends or takes too long.

    Returns what it printed so far.
    """
    assert process.stdout is not None
    deadline, seen = time.monotonic() + START_SECONDS, b""
    while wanted not in seen:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([process.stdout], [], [], remaining)[0]:
            pytest.fail(f"{process.args!r} isn't ready after {START_SECONDS} s: {seen!r}")
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            pytest.fail(f"{process.args!r} ended with status {process.wait()}: {seen!r}")
        seen += chunk
    return seen
