# SPDX-License-Identifier: MIT
"""The socket of KCM clients while one daemon follows another, and when there will be none.

Every mount here is one in the background with its parent process, as users have it.
"""

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.errors import Exit, KcmSocketError
from ccfs.kcm.listener import KcmListener
from ccfs.linux.socket_listener import listener_pid
from ccfs.mounting import mountpoint
from tests.support import kcm
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.client_programs import run
from tests.support.kcm import Client, credential
from tests.support.mounting import is_mounted
from tests.support.processes import children, parent, serving
from tests.support.shell import SECONDS, wait_until

TGT = "krbtgt/R@R"
O_CLOEXEC = 0o2000000
LISTENING = "00010000"
"""Among the flags of /proc/net/unix."""


def at(here: BackgroundMount) -> Path:
    """Where the clients of a mount connect."""
    return here.directory / "kcm"


@pytest.fixture
def here() -> Iterator[BackgroundMount]:
    with background_mount() as made:
        made.mount("--kcm-socket", str(at(made)))
        with Client(at(made)) as client:
            client.replace("tkt", [credential(TGT)])
        yield made


def kill(pid: int) -> None:
    """Kill a process, and see it end, be it waited for or not."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], SECONDS)[0]
    finally:
        os.close(descriptor)


def supervisor(daemon: int) -> int:
    """The process that keeps daemons; a fork server is between."""
    return parent(parent(daemon))


@contextlib.contextmanager
def gap(here: BackgroundMount) -> Iterator[int]:
    """The time between two daemons, for as long as a test wants; the pid of the supervisor."""
    daemon = here.pid()
    supervisor_pid = supervisor(daemon)
    os.kill(supervisor_pid, signal.SIGSTOP)
    try:
        kill(daemon)
        yield supervisor_pid
    finally:
        os.kill(supervisor_pid, signal.SIGCONT)


def test_connection_between_daemons_is_answered(here: BackgroundMount) -> None:
    with contextlib.ExitStack() as stack:
        with gap(here) as supervisor_pid:
            clients = [stack.enter_context(Client(at(here))) for _ in range(20)]
            for client in clients:
                client.send(kcm.request(kcm.GET_CRED_UUID_LIST, client.name("tkt")))
            assert not select.select([client.socket for client in clients], [], [], 0)[0]
        for client in clients:
            assert len(kcm.uuids(client.receive().payload)) == 1
            assert client.records("tkt") == [credential(TGT)]
    assert listener_pid(str(at(here))) == supervisor_pid


def test_socket_is_not_taken_between_daemons(here: BackgroundMount) -> None:
    with gap(here) as supervisor_pid, background_mount() as other:
        done = other.run("mount", "--no-journal", "--kcm-socket", str(at(here)), str(other.path))
        assert done.returncode == Exit.KCM_SOCKET
        assert f"process {supervisor_pid} serves at {at(here)}" in done.stderr
        assert not is_mounted(other.path)
    with Client(at(here)) as client:
        assert client.records("tkt") == [credential(TGT)]


IMPATIENT = """
import os, select, signal, socket, sys, krb5
mount, context = sys.argv[1], krb5.init_context()
ccaches = [krb5.cc_default(context) for _ in range(3)]
for one in ccaches:
    krb5.cc_get_principal(context, one)
foreign = []
for _ in range(4):
    info = open(f"{mount}/info").read().split()
    daemon = os.pidfd_open(int(info[info.index("pid:") + 1]))
    signal.pidfd_send_signal(daemon, signal.SIGKILL)
    select.select([daemon], [], [])
    for one in ccaches:
        print(krb5.cc_get_principal(context, one))
        foreign += socket.socketpair()
    os.close(daemon)
print(len(select.select(foreign, [], [], 0)[0]))
"""


def test_libkrb5_reconnects_after_kill(here: BackgroundMount) -> None:
    """Killed four times in a row, ccaches that are open are used in the gap.

    A connection that failed would leave libkrb5 with the number of a descriptor that it has closed;
    what it asks next would go to whatever has that number by then.
    """
    pytest.importorskip("krb5")
    conf = here.directory / "krb5.conf"
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {at(here)}\n")
    environment = {**os.environ, "KRB5_CONFIG": str(conf), "KRB5CCNAME": "KCM:"}
    done = run([sys.executable, "-c", IMPATIENT, here.path], environment)
    assert (done.stderr, done.stdout) == ("", "alice@R\n" * 12 + "0\n")


def unmounted(here: BackgroundMount) -> None:
    """By the command: the socket has gone when that returns, and its place is free."""
    here.unmount()
    assert not at(here).exists()
    here.mount("--kcm-socket", str(at(here)))
    here.unmount()


def taken_away(here: BackgroundMount) -> None:
    mountpoint.unmount(str(here.path), lazy=True)  # the notifier may still be in it


def taken_away_in_the_gap(here: BackgroundMount) -> None:
    with gap(here):
        mountpoint.unmount(str(here.path), lazy=True)


def daemon_told(here: BackgroundMount) -> None:
    os.kill(here.pid(), signal.SIGTERM)


def parent_told(here: BackgroundMount) -> None:
    os.kill(supervisor(here.pid()), signal.SIGTERM)


def parent_told_in_the_gap(here: BackgroundMount) -> None:
    with gap(here) as supervisor_pid:
        os.kill(supervisor_pid, signal.SIGTERM)


def parent_gone(here: BackgroundMount) -> None:
    daemon = here.pid()
    kill(supervisor(daemon))
    with Client(at(here)) as client:
        assert client.default() == "tkt"
    os.kill(daemon, signal.SIGTERM)


def journal_damaged(here: BackgroundMount) -> None:
    """Connections that wait to be accepted are closed."""
    with gap(here):
        for file in here.directory.glob("journal*"):
            file.write_bytes(b"damaged" * 1000)
        client = Client(at(here))
    with client, pytest.raises((EOFError, ConnectionError)):
        client.default()


@pytest.mark.parametrize(
    "end",
    [
        unmounted,
        taken_away,
        taken_away_in_the_gap,
        daemon_told,
        parent_told,
        parent_told_in_the_gap,
        parent_gone,
        journal_damaged,
    ],
)
def test_socket_is_removed_at_end(
    here: BackgroundMount, end: Callable[[BackgroundMount], None]
) -> None:
    end(here)
    wait_until(lambda: not serving(here.path), "a process stays")
    assert not at(here).exists()


def test_failed_mount_removes_socket() -> None:
    """It has gone when the command says why."""
    with background_mount() as here:
        here.journal.write_bytes(b"damaged" * 1000)
        options = ("--journal", str(here.journal), "--kcm-socket", str(at(here)))
        assert here.run("mount", *options, str(here.path)).returncode == Exit.JOURNAL
        assert not at(here).exists()
        here.mount("--kcm-socket", str(at(here)))


def test_mount_replace_takes_over_stale_socket(here: BackgroundMount) -> None:
    """Daemon and supervisor were killed before they could remove the socket."""
    daemon = here.pid()
    kill(supervisor(daemon))
    kill(daemon)
    assert at(here).exists()
    here.mount("--replace", "--kcm-socket", str(at(here)))
    with Client(at(here)) as client:
        assert client.records("tkt") == [credential(TGT)]


def test_socket_is_open_in_daemon_and_supervisor_only(here: BackgroundMount) -> None:
    """Daemon and supervisor, once each; not the notifier, nor any program that is run."""
    for _ in range(2):
        daemon = here.pid()
        assert held(at(here), daemon) == held(at(here), supervisor(daemon)) == [True]
        (notifier,) = children(daemon)
        assert held(at(here), notifier) == []
        old = here.info()["server_id"]
        kill(daemon)
        here.come_back(old)


def held(path: Path, pid: int) -> list[bool]:
    """For each descriptor that a process has of a listening socket: whether it goes at exec."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    (inode,) = [one[6] for one in lines if one[7:] == [str(path)] and one[3] == LISTENING]
    there = Path(f"/proc/{pid}/fd")
    found = [fd.name for fd in there.iterdir() if os.readlink(fd) == f"socket:[{inode}]"]
    info = [Path(f"/proc/{pid}/fdinfo/{name}").read_text().split() for name in found]
    return [bool(int(words[words.index("flags:") + 1], 8) & O_CLOEXEC) for words in info]


def test_info_names_socket(here: BackgroundMount) -> None:
    assert here.info()["kcm_socket"] == str(at(here))
    done = here.run("status", str(here.path))
    assert f"\nkcm_socket: {at(here)}\n" in done.stdout


def test_socket_file_is_removed_by_its_creator_only(tmp_path: Path) -> None:
    """Its creator removes it when it closes; another server's socket stays."""
    made = KcmListener(str(tmp_path / "kcm"))
    with made.listener:
        assert listener_pid(made.path) == os.getpid()
        with pytest.raises(KcmSocketError, match=f"process {os.getpid()} serves at"):
            KcmListener(made.path)
        made.remove()
        assert not os.path.exists(made.path)
        with KcmListener(made.path).listener:
            made.remove()
            assert os.path.exists(made.path)
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(made.path)
