# SPDX-License-Identifier: MIT
"""The acceptor of KCM connections: each daemon receives all of them, ended ones are dropped."""

import contextlib
import os
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.kcm import server as serving
from ccfs.kcm.listener import KcmListener
from ccfs.kcm.server import KcmServer
from ccfs.kcm.service import KcmService
from ccfs.service.info import Owner
from ccfs.supervisor.kcm_acceptor import ALL, KcmAcceptor
from tests.support import kcm
from tests.support.direct import FileSystem
from tests.support.kcm import request

NOOP = request(kcm.NOOP)
DONE = b"\0\0\0\4" + bytes(8)


def has_work(one: KcmAcceptor | KcmServer) -> bool:
    poll = select.poll()
    poll.register(one.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class AcceptorHost:
    """An acceptor, and its daemons in this process."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.socket = KcmListener(str(path))
        self.acceptor = KcmAcceptor(self.socket)
        stack.callback(self.socket.close)

    def connect(self) -> socket.socket:
        client = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(self.socket.path)
        client.settimeout(10)
        return client

    def daemon(self, most: int = 2000) -> KcmServer:
        """A new one, which has heard nothing yet."""
        service = KcmService(FileSystem().committer, Owner(os.geteuid(), 0))
        made = KcmServer(
            service, limit=1 << 20, budget=1 << 22, max_connections=most, takes_over=True
        )
        _, theirs = self.acceptor.descriptors_for_daemon()
        made.open(None, socket.socket(fileno=theirs))
        return made

    def work(self, daemon: KcmServer | None = None) -> None:
        """Handle events until neither acceptor nor daemon has any."""
        both = [self.acceptor] if daemon is None else [self.acceptor, daemon]
        for _ in range(100_000):
            ready = [one for one in both if has_work(one)]  # type: ignore[arg-type]
            if not ready:
                return
            if self.acceptor in ready:
                self.acceptor.handle_events()
            if daemon and daemon in ready:
                daemon.answer_all()
        pytest.fail("there is always something")

    @property
    def kept(self) -> int:
        return len(self.acceptor._connections)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AcceptorHost]:
    with contextlib.ExitStack() as stack:
        yield AcceptorHost(tmp_path / "kcm", stack)


def test_acceptor_passes_connections_to_each_daemon(host: AcceptorHost) -> None:
    """Each is given what is there, and what comes."""
    clients = [host.connect() for _ in range(3)]
    host.work()
    assert host.kept == 3
    for _ in range(3):
        daemon = host.daemon()
        clients.append(host.connect())
        for client in clients:
            client.sendall(NOOP)
        host.work(daemon)
        assert [client.recv(100) for client in clients] == [DONE] * len(clients)
        assert daemon.connections == host.kept == len(clients)
        daemon.close(ends=False)


def test_daemon_serves_after_receiving_all_connections(host: AcceptorHost) -> None:
    client = host.connect()
    client.sendall(NOOP)
    host.work()
    daemon = host.daemon()
    while not daemon.connections:
        daemon.answer_all()
    assert not select.select([client], [], [], 0)[0]
    host.work(daemon)
    assert client.recv(100) == DONE


def test_acceptor_forgets_closed_client(host: AcceptorHost) -> None:
    """With and without a daemon."""
    daemon = host.daemon()
    gone, stays = host.connect(), host.connect()
    host.work(daemon)
    gone.close()
    host.work(daemon)
    assert daemon.connections == host.kept == 1
    daemon.close(ends=False)
    stays.close()
    host.work()
    assert host.kept == 0


def test_daemon_ends_connections_at_acceptor(host: AcceptorHost) -> None:
    """One that breaks the protocol; all of them where there will be no other daemon."""
    daemon = host.daemon()
    bad, good = host.connect(), host.connect()
    host.work(daemon)
    bad.sendall(bytes(8))
    host.work(daemon)
    assert (daemon.connections, host.kept) == (1, 1)
    daemon.close()
    assert good.recv(1) == b""
    host.work()
    assert host.kept == 0


def test_acceptor_passes_more_connections_than_socket_holds(host: AcceptorHost) -> None:
    clients = [host.connect() for _ in range(400)]
    host.work()
    daemon = host.daemon()
    for client in clients:
        client.sendall(NOOP)
    host.work(daemon)
    assert [client.recv(100) for client in clients] == [DONE] * 400


def test_connection_over_limit_replaces_quietest(host: AcceptorHost) -> None:
    daemon = host.daemon(most=3)
    clients = [host.connect() for _ in range(3)]
    host.work(daemon)
    clients[0].sendall(NOOP)
    host.work(daemon)
    clients.append(host.connect())
    host.work(daemon)
    assert clients[1].recv(1) == b""
    assert daemon.connections == host.kept == 3


@pytest.mark.parametrize("spare", range(4))
def test_connection_without_descriptors_waits_or_replaces_quietest(
    host: AcceptorHost, spare: int
) -> None:
    """A new client waits for a free descriptor, or replaces the quietest connection."""
    daemon = host.daemon()
    first = host.connect()
    host.work(daemon)
    more = [host.connect() for _ in range(3)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    full: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                full.append(os.dup(0))
        for descriptor in full[:spare]:
            os.close(descriptor)
        host.work(daemon)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in full[spare:]:
            os.close(descriptor)
    first.close()
    host.work(daemon)
    for client in more:
        with contextlib.suppress(OSError):
            client.sendall(NOOP)
    host.work(daemon)
    assert {client.recv(100) for client in more[-1:]} == {DONE}


def test_daemon_accepts_after_acceptor_ends(
    host: AcceptorHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon accepts clients itself then."""
    client = host.connect()
    host.work()
    service = KcmService(FileSystem().committer, Owner(os.geteuid(), 0))
    daemon = KcmServer(service, limit=1 << 20, budget=1 << 22, takes_over=True)
    listener, theirs = host.acceptor.descriptors_for_daemon()
    daemon.open(socket.socket(fileno=os.dup(listener)), socket.socket(fileno=theirs))
    host.acceptor._drop_daemon()
    other = host.connect()
    for one in (client, other):
        one.sendall(NOOP)
    while select.select([daemon], [], [], 0)[0]:
        daemon.answer_all()
    assert [one.recv(100) for one in (client, other)] == [DONE] * 2


def test_acceptor_and_server_agree_on_protocol() -> None:
    assert serving.ALL == ALL
