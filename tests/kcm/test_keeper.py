# SPDX-License-Identifier: MIT
"""Who keeps the connections of KCM clients: each daemon has all of them, and ended ones go."""

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


class House:
    """A keeper, and its daemons in this process."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.socket = KcmListener(str(path))
        self.keeper = KcmAcceptor(self.socket)
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
        _, theirs = self.keeper.descriptors_for_daemon()
        made.open(None, socket.socket(fileno=theirs))
        return made

    def work(self, daemon: KcmServer | None = None) -> None:
        """Until nobody has anything to do."""
        both = [self.keeper] if daemon is None else [self.keeper, daemon]
        for _ in range(100_000):
            ready = [one for one in both if has_work(one)]  # type: ignore[arg-type]
            if not ready:
                return
            if self.keeper in ready:
                self.keeper.handle_events()
            if daemon and daemon in ready:
                daemon.answer_all()
        pytest.fail("there is always something")

    @property
    def kept(self) -> int:
        return len(self.keeper._connections)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with contextlib.ExitStack() as stack:
        yield House(tmp_path / "kcm", stack)


def test_acceptor_passes_connections_to_each_daemon(house: House) -> None:
    """Each is given what is there, and what comes."""
    clients = [house.connect() for _ in range(3)]
    house.work()
    assert house.kept == 3
    for _ in range(3):
        daemon = house.daemon()
        clients.append(house.connect())
        for client in clients:
            client.sendall(NOOP)
        house.work(daemon)
        assert [client.recv(100) for client in clients] == [DONE] * len(clients)
        assert daemon.connections == house.kept == len(clients)
        daemon.close(ends=False)


def test_daemon_serves_after_receiving_all_connections(house: House) -> None:
    client = house.connect()
    client.sendall(NOOP)
    house.work()
    daemon = house.daemon()
    while not daemon.connections:
        daemon.answer_all()
    assert not select.select([client], [], [], 0)[0]
    house.work(daemon)
    assert client.recv(100) == DONE


def test_acceptor_forgets_closed_client(house: House) -> None:
    """With and without a daemon."""
    daemon = house.daemon()
    gone, stays = house.connect(), house.connect()
    house.work(daemon)
    gone.close()
    house.work(daemon)
    assert daemon.connections == house.kept == 1
    daemon.close(ends=False)
    stays.close()
    house.work()
    assert house.kept == 0


def test_daemon_ends_connections_at_acceptor(house: House) -> None:
    """One that breaks the protocol; all of them where there will be no other daemon."""
    daemon = house.daemon()
    bad, good = house.connect(), house.connect()
    house.work(daemon)
    bad.sendall(bytes(8))
    house.work(daemon)
    assert (daemon.connections, house.kept) == (1, 1)
    daemon.close()
    assert good.recv(1) == b""
    house.work()
    assert house.kept == 0


def test_acceptor_passes_more_connections_than_socket_holds(house: House) -> None:
    clients = [house.connect() for _ in range(400)]
    house.work()
    daemon = house.daemon()
    for client in clients:
        client.sendall(NOOP)
    house.work(daemon)
    assert [client.recv(100) for client in clients] == [DONE] * 400


def test_connection_over_limit_replaces_quietest(house: House) -> None:
    daemon = house.daemon(most=3)
    clients = [house.connect() for _ in range(3)]
    house.work(daemon)
    clients[0].sendall(NOOP)
    house.work(daemon)
    clients.append(house.connect())
    house.work(daemon)
    assert clients[1].recv(1) == b""
    assert daemon.connections == house.kept == 3


@pytest.mark.parametrize("spare", range(4))
def test_connection_without_descriptors_waits_or_replaces_quietest(
    house: House, spare: int
) -> None:
    """Who connects waits until there are some, or takes the place of the quietest."""
    daemon = house.daemon()
    first = house.connect()
    house.work(daemon)
    more = [house.connect() for _ in range(3)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    full: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                full.append(os.dup(0))
        for descriptor in full[:spare]:
            os.close(descriptor)
        house.work(daemon)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in full[spare:]:
            os.close(descriptor)
    first.close()
    house.work(daemon)
    for client in more:
        with contextlib.suppress(OSError):
            client.sendall(NOOP)
    house.work(daemon)
    assert {client.recv(100) for client in more[-1:]} == {DONE}


def test_daemon_accepts_after_acceptor_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon accepts clients itself then."""
    client = house.connect()
    house.work()
    service = KcmService(FileSystem().committer, Owner(os.geteuid(), 0))
    daemon = KcmServer(service, limit=1 << 20, budget=1 << 22, takes_over=True)
    listener, theirs = house.keeper.descriptors_for_daemon()
    daemon.open(socket.socket(fileno=os.dup(listener)), socket.socket(fileno=theirs))
    house.keeper._drop_daemon()
    other = house.connect()
    for one in (client, other):
        one.sendall(NOOP)
    while select.select([daemon], [], [], 0)[0]:
        daemon.answer_all()
    assert [one.recv(100) for one in (client, other)] == [DONE] * 2


def test_acceptor_and_server_agree_on_protocol() -> None:
    assert serving.ALL == ALL
