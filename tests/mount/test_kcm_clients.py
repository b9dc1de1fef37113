# SPDX-License-Identifier: MIT
"""MIT's and Heimdal's own programs with KCM: ccaches, and what they send, opcode by opcode.

Heimdal 7.8 knows no other socket than /var/run/.heim_org.h5l.kcm-socket, so its programs run in a
mount namespace with a /run of its own.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client_programs import Output, run
from tests.support.clients.heimdal import Heimdal
from tests.support.kcm_recording import Recording, recorded
from tests.support.kdc import Kdc
from tests.support.mounting import MakeMount, Mounted
from tests.support.require import require

UID = os.geteuid()
T = f"KCM:{UID}:t"
TGT, HTTP = "krbtgt/KRBTEST.COM@KRBTEST.COM", "HTTP/localhost@KRBTEST.COM"
WELL_KNOWN = "/run/.heim_org.h5l.kcm-socket"


@dataclass(frozen=True, slots=True)
class Served:
    """A mount with a KCM socket, clients of it, and what they send."""

    mounted: Mounted
    socket: Path
    recording: Recording
    kdc: Kdc
    directory: Path

    def mit(self, ccname: str, *argv: str, status: int = 0) -> Output:
        """Run one of MIT's programs."""
        conf = self.directory / "kcm.conf"
        conf.write_text(f"[libdefaults]\n\tkcm_socket = {self.socket}\n")
        environment = self.kdc.environment(ccname)
        environment["KRB5_CONFIG"] = f"{conf}:{environment['KRB5_CONFIG']}"
        return run(argv, environment, status=status)

    def kinit(self, ccname: str, user: str, *options: str) -> None:
        self.mit(ccname, "kinit", *options, "-k", "-t", str(self.kdc.keytab), user)

    def names(self, directory: str = "caches") -> list[str]:
        return sorted(os.listdir(self.mounted.path / directory))


@pytest.fixture
def served(kdc: Kdc, make_mount: MakeMount, tmp_path: Path) -> Iterator[Served]:
    mounted = make_mount("--kcm-socket", str(tmp_path / "kcm"))
    with recorded(tmp_path / "recorded", tmp_path / "kcm") as recording:
        yield Served(mounted, tmp_path / "recorded", recording, kdc, tmp_path)


def test_mit_programs_work_with_one_ccache(served: Served) -> None:
    """All that its programs do, and what they send for it."""
    sent = served.recording.take
    served.kinit(T, "alice")
    assert sent() == [8, 8, 13002]
    assert served.names("caches/t/credentials") == [TGT.replace("/", "%2F")]
    listed = served.mit(T, "klist")
    assert sent() == [8, 22, 13001]
    assert f"Ticket cache: {T}\nDefault principal: alice@KRBTEST.COM" in listed.stdout
    served.mit(T, "kvno", "HTTP/localhost")
    assert sent() == [8, 8, 7, 7, 7, 6]
    assert HTTP.replace("/", "%2F") in served.names("caches/t/credentials")
    served.mit(T, "kvno", "HTTP/localhost")
    assert sent() == [8, 8, 7, 7]
    assert f"alice@KRBTEST.COM              {T}" in served.mit(T, "klist", "-l").stdout
    assert sent() == [8, 8, 8, 22, 13001]
    assert HTTP in served.mit(T, "klist", "-A").stdout
    assert sent() == [8, 8, 22, 13001]
    served.kinit(T, "alice", "-r", "2d", "-c", T)
    sent()
    served.mit(T, "kinit", "-R")
    assert sent() == [8, 7, 13002]
    served.mit(T, "kswitch", "-c", T)
    assert sent() == [21]
    assert os.readlink(served.mounted.path / "default") == "caches/t"
    served.mit(T, "kdestroy")
    assert sent() == [5, 8]
    assert "not found" in served.mit(T, "klist", status=1).stderr
    assert served.names("dir") == ["primary"]


def test_mit_programs_work_with_collection(served: Served) -> None:
    """By the bare `KCM:`: the default first, switching, destroying one and all."""
    sent = served.recording.take
    served.kinit("KCM:", "alice")
    served.kinit("KCM:", "bob")
    sent()
    listed = served.mit("KCM:", "klist", "-l").stdout.splitlines()[2:]
    assert sent() == [18, 20, 8, 8, 8, 22, 13001, 19, 19, 8, 8, 22, 13001]
    assert [line.split()[0] for line in listed] == ["bob@KRBTEST.COM", "alice@KRBTEST.COM"]
    assert listed[1].split()[1] == f"KCM:{UID}:tkt"
    served.mit("KCM:", "kswitch", "-p", "alice@KRBTEST.COM")
    assert (served.mounted.path / "dir/primary").read_text() == "tkt\n"
    sent()
    everything = served.mit("KCM:", "klist", "-A").stdout
    assert sent() == [18, 20, 8, 8, 22, 13001, 19, 19, 8, 22, 13001]
    assert everything.index("alice@") < everything.index("bob@")
    served.mit("KCM:", "kvno", "HTTP/localhost")
    served.mit("KCM:", "kdestroy")
    listed = served.mit("KCM:", "klist", "-l").stdout.splitlines()[2:]
    assert [line.split()[0] for line in listed] == ["bob@KRBTEST.COM"]
    served.mit("KCM:", "klist", "-s", status=1)  # the default is the one that was destroyed
    served.mit("KCM:", "kdestroy", "-A")
    assert served.mit("KCM:", "klist", "-l", status=1).stdout.count("\n") == 2
    assert served.names("dir") == ["primary"]


def test_mit_programs_share_ccache_by_file_and_kcm(served: Served) -> None:
    """A credential stored by one client is listed by the other at once."""
    name = f"FILE:{served.mounted.path}/default/ccache"
    served.kinit(name, "alice")
    assert TGT in served.mit("KCM:", "klist").stdout
    served.mit("KCM:", "kvno", "HTTP/localhost")
    assert HTTP in served.mit(name, "klist").stdout
    served.mit(f"DIR:{served.mounted.path}/dir", "kvno", "host/localhost")
    assert "host/localhost" in served.mit("KCM:", "klist").stdout
    served.mit(name, "kdestroy")
    served.mit("KCM:", "klist", "-s", status=1)


@dataclass(frozen=True, slots=True)
class HeimdalClient:
    """Heimdal's programs where the well-known socket is the recorded one."""

    served: Served
    heimdal: Heimdal
    unshare: str

    def __call__(self, ccname: str, *argv: str, status: int = 0) -> Output:
        link = f"mount -t tmpfs none /run && ln -s {self.served.socket} {WELL_KNOWN}"
        command = [self.unshare, "--mount", "--propagation", "private", "sh", "-c"]
        environment = self.heimdal.environment(ccname)
        environment["PATH"] += ":/usr/sbin:/sbin"
        return run([*command, f'{link} && exec "$@"', "sh", *argv], environment, status=status)

    def kinit(self, ccname: str, user: str, *options: str) -> None:
        keytab = str(self.served.kdc.keytab)
        self(ccname, "kinit.heimdal", *options, "-k", "-t", keytab, user)


@pytest.fixture
def client(served: Served, heimdal: Heimdal) -> HeimdalClient:
    found = require("util-linux", "apt-get install util-linux", ["unshare"])
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root: Heimdal's socket is fixed, so it needs a mount namespace")
    return HeimdalClient(served, heimdal, found["unshare"])


@pytest.mark.heimdal
def test_heimdal_programs_work_with_one_ccache(client: HeimdalClient) -> None:
    """All that its programs do, and what they send: kinit of 7.8 works here."""
    sent = client.served.recording.take
    client.kinit(T, "alice", "-c", T)
    assert sent() == [3, 4, 6, 8, 11, 6, 8, 11, 6, 17, 21]
    assert client.served.names("caches/t/credentials") == [TGT.replace("/", "%2F")]
    assert client.served.names() == ["t"]
    assert TGT in client(T, "heimtools", "klist").stdout
    assert sent() == [8, 8, 9, 10, 10, 10, 8, 12, 22, 9, 10, 10, 10]
    client(T, "kgetcred", "HTTP/localhost")
    assert sent() == [8, 9, 10, 10, 10, 22, 9, 10, 6]
    client(T, "kgetcred", "HTTP/localhost")
    assert sent() == [8, 9, 10, 10, 10, 10]
    assert HTTP in client(T, "heimtools", "klist", "-v").stdout
    client(T, "kdestroy.heimdal", f"--credential={HTTP}")
    assert HTTP not in client(T, "heimtools", "klist").stdout
    client(T, "kinit.heimdal", "-R", "-c", T)
    assert TGT in client(T, "heimtools", "klist", "-A").stdout
    sent()
    client(T, "kdestroy.heimdal")
    assert sent() == [5]
    client(T, "heimtools", "klist", status=1)
    assert client.served.names("dir") == ["primary"]


@pytest.mark.heimdal
@pytest.mark.parametrize("name", [f"KCM:{UID}", "KCM:"])
def test_heimdal_programs_work_with_collection(client: HeimdalClient, name: str) -> None:
    """By the bare uid or nothing: its kinit makes a ccache for each user and switches to it."""
    sent = client.served.recording.take
    client.kinit(name, "alice")
    client.kinit(name, "bob")
    sent()
    listed = client(name, "heimtools", "klist", "-l").stdout
    assert sent()[:2] == [18, 19]
    assert "alice@KRBTEST.COM" in listed
    assert "bob@KRBTEST.COM" in client(name, "heimtools", "klist").stdout
    client(name, "heimtools", "kswitch", "-p", "alice@KRBTEST.COM")
    assert "Principal: alice@KRBTEST.COM" in client(name, "heimtools", "klist").stdout
    client(name, "kdestroy.heimdal", "-A")
    assert "@" not in client(name, "heimtools", "klist", "-l").stdout
    assert client.served.names("dir") == ["primary"]


@pytest.mark.heimdal
def test_heimdal_and_mit_share_a_ccache(client: HeimdalClient) -> None:
    """One makes it, the other uses it."""
    served = client.served
    served.kinit(T, "alice")
    client(T, "kgetcred", "HTTP/localhost")
    assert HTTP in served.mit(T, "klist").stdout
    client.kinit(T, "bob", "-c", T)
    served.mit(T, "kvno", "host/localhost")
    listed = client(T, "heimtools", "klist").stdout
    assert "Principal: bob@KRBTEST.COM" in listed
    assert "host/localhost@KRBTEST.COM" in listed


@pytest.mark.heimdal
def test_heimdal_rounds_leave_no_ccache(client: HeimdalClient) -> None:
    for _ in range(3):
        client.kinit(f"KCM:{UID}", "alice")
        client(f"KCM:{UID}", "kdestroy.heimdal")
    assert len(client.served.names()) <= 2
