# SPDX-License-Identifier: MIT
"""Connections of KCM clients over the deaths of daemons: they stay, nothing is lost or doubled."""

import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.support import kcm
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.client_programs import run
from tests.support.kcm import Client, credential
from tests.support.shell import SECONDS

KILLS = 50
FEWER = 10
TGT = "krbtgt/R@R"


@pytest.fixture(params=[(), ("--mount-anew",)], ids=["take over", "remount"])
def here(request: pytest.FixtureRequest) -> Iterator[BackgroundMount]:
    with background_mount() as made:
        made.mount("--kcm-socket", str(made.directory / "kcm"), *request.param)
        yield made


class Killer(threading.Thread):
    """Kills one daemon after another, as soon as it answers; says when there were enough."""

    def __init__(self, here: BackgroundMount, kills: int) -> None:
        super().__init__()
        self.here, self.kills = here, kills
        self.done = threading.Event()
        self.killed: set[int] = set()

    def run(self) -> None:
        try:
            while len(self.killed) < self.kills:
                with Client(self.here.directory / "kcm") as client:
                    client.call(kcm.NOOP)
                self._kill(self.here.pid())
        finally:
            self.done.set()

    def _kill(self, pid: int) -> None:
        descriptor = os.pidfd_open(pid)
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], SECONDS)[0]
        os.close(descriptor)
        self.killed.add(pid)


def test_kcm_connection_survives_many_kills(here: BackgroundMount) -> None:
    """Each change that was asked for is there once, and each reply is the right one."""
    killer = Killer(here, KILLS)
    with Client(here.directory / "kcm") as client:
        client.initialize("tkt")
        killer.start()
        stored: list[bytes] = []
        while not killer.done.is_set():
            made = credential(f"host/{len(stored)}@R")
            client.store("tkt", made)
            stored.append(made)
            if len(stored) % 10 == 0:
                assert client.default() == "tkt"
            if len(stored) == 500:
                assert client.records("tkt") == stored
                client.initialize("tkt")
                stored.clear()
        killer.join()
        assert client.records("tkt") == stored
    assert len(killer.killed) == killer.kills


def test_kcm_clients_survive_many_kills(here: BackgroundMount) -> None:
    """Each of them gets its own answers, those too that send their requests in parts."""
    failed: list[BaseException] = []
    killer = Killer(here, FEWER)

    def talk(number: int) -> None:
        name, count = f"c{number}", 0
        try:
            with Client(here.directory / "kcm") as client:
                client.initialize(name)
                while not killer.done.is_set():
                    count += 1
                    asked = kcm.request(kcm.STORE, client.name(name), credential(f"host/{count}@R"))
                    client.send(asked[:4])
                    client.send(asked[4:])
                    assert client.receive().status == 0
                    if count % 50 == 0:
                        assert len(client.records(name)) == count
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(5)]
    for thread in [killer, *threads]:
        thread.start()
    for thread in [killer, *threads]:
        thread.join()
    assert not failed


def test_klist_works_over_many_kills(here: BackgroundMount) -> None:
    """klist: each run of it connects anew, at whatever moment."""
    conf = here.directory / "krb5.conf"
    socket = here.directory / "kcm"
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {socket}\n")
    environment = {**os.environ, "KRB5_CONFIG": str(conf), "KRB5CCNAME": "KCM:"}
    with Client(socket) as client:
        client.replace("tkt", [credential(TGT)])
        killer = Killer(here, FEWER)
        killer.start()
        while not killer.done.is_set():
            done = run(["klist"], environment)
            assert done.stderr == ""
            assert TGT in done.stdout
        killer.join()
        assert client.records("tkt") == [credential(TGT)]
