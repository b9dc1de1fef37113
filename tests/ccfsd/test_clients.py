# SPDX-License-Identifier: MIT
"""Clients of the control socket that mean no good, and those that suffer from none of it."""

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.ccfsd import clients
from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host
from tests.support.shell import wait_until

USER = 64108


@pytest.fixture(scope="module")
def host() -> Iterator[CcfsdHost]:
    """One ccfsd for all of these."""
    with ccfsd_host() as made:
        made.start("--no-kcm")
        yield made


def connect(host: CcfsdHost) -> socket.socket:
    """A connection of root's."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connected.settimeout(20)
    connected.connect(str(host.run / "control"))
    return connected


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"x", b"error unknown request"),
        (b"status", b"ok pid="),
        (b"status a=b", b"ok pid="),
        (b"status a", b"error not key=value"),
        (b"status  a=b", b"error not key=value"),
        (b" status", b"error the message has no word"),
        (b"STATUS", b"error the message has no word"),
        (b"status\n", b"error the message has no word"),
        (b"status a=%4", b"error not key=value"),
        (b"status a=%4g", b"error not key=value"),
        (b"status a=\xff", b"error not key=value"),
        (b"status a=1 a=2", b"error the key a is repeated"),
        (b"close", b"error session is not a number"),
        (b"close session=1e3", b"error session is not a number"),
        (b"close session=" + b"9" * 30, b"error session is not a number"),
        (b"close session=123456", b"ok"),
        (b"\0" * 4096, b"error the message has no word"),
        (b"status a=" + b"x" * 5000, b"error the message is too long"),
        (bytes(range(256)) * 200, b"error the message is too long"),
    ],
)
def test_control_replies_one_line_and_closes_after_error(
    host: CcfsdHost, sent: bytes, reply: bytes
) -> None:
    """Whatever comes gets one line; after an error the connection is over."""
    with connect(host) as connected:
        connected.send(sent)
        said = connected.recv(5000)
        assert said.startswith(reply)
        if said.startswith(b"error"):
            assert connected.recv(5000) == b""
    assert host.status()["pid"] == host.started[0].pid


def test_unwanted_descriptors_are_closed(host: CcfsdHost) -> None:
    """They are let go by the kernel: ccfsd has no more open than before."""
    directory = f"/proc/{host.started[0].pid}/fd"
    host.status()
    before = len(os.listdir(directory))
    for _ in range(20):
        with connect(host) as connected, open(os.devnull) as file:
            socket.send_fds(connected, [b"status"], [file.fileno()] * 10)
            assert connected.recv(5000).startswith(b"ok ")
    wait_until(lambda: len(os.listdir(directory)) <= before, "descriptors stay")


def test_second_request_before_reply_is_refused(host: CcfsdHost) -> None:
    with connect(host) as connected:
        connected.send(b"open uid=64108 gid=64108 user=x scope=user service=t deadline=9000")
        connected.send(b"status")
        assert connected.recv(5000) == b"error one request at a time"
        assert connected.recv(5000) == b""
    wait_until(host.is_empty, "something is left")


def test_connection_serves_many_requests(host: CcfsdHost) -> None:
    with connect(host) as connected:
        for _ in range(1000):
            connected.send(b"close session=0")
            assert connected.recv(5000) == b"ok"


HOLD = """
import socket, sys
held, refused = [], 0
for _ in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(20)
    while True:
        try:
            s.connect("/run/ccfs/control")
        except BlockingIOError:
            continue
        break
    try:
        s.send(b"mount deadline=15000")
    except BrokenPipeError:
        pass  # refused already
    held.append(s)
for s in held:
    try:
        refused += s.recv(5000) == b"error too many connections"
    except ConnectionError:
        refused += 1
print(refused, flush=True)
sys.stdin.read()
"""


def test_connection_limit_per_user_spares_others(host: CcfsdHost) -> None:
    """A user with too many connections is refused; root and other users are not."""
    command = [*as_user(USER), "/usr/bin/python3", "-I", "-c", HOLD, "200"]
    greedy = host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert greedy.stdout is not None
        assert select.select([greedy.stdout], [], [], 30)[0]
        refused = int(greedy.stdout.readline())
        assert refused >= 200 - clients.MOST_OF_ONE
        assert host.ask_as(64109, "mount deadline=15000").startswith("ok path=/run/ccfs/64109 ")
        session = host.open(64110).values["session"]
        host.close(session)
    finally:
        greedy.kill()
        greedy.communicate()
    wait_until(
        lambda: host.ask_as(USER, "mount deadline=15000").startswith("ok "), "they stay counted"
    )


HAMMER = HOLD.replace("held.append(s)", "s.close()")


def test_logins_succeed_under_connection_flood(host: CcfsdHost) -> None:
    """A client opens connections without end, sends a request on each and closes it."""
    command = [*as_user(USER), "/usr/bin/python3", "-I", "-c", HAMMER, "1000000"]
    greedy = host.popen(command, stdin=subprocess.PIPE)
    try:
        for _ in range(5):
            host.close(host.open(64110).values["session"])
    finally:
        greedy.kill()
        greedy.communicate()


def test_abandoned_requests_are_dropped(host: CcfsdHost) -> None:
    """A user stops their daemon, asks for it again and again, and goes each time."""
    host.ask_as(USER, "mount deadline=15000")
    daemon = host.daemon(USER)
    os.kill(daemon, signal.SIGSTOP)
    try:
        hammer = HAMMER.replace("deadline=15000", "deadline=60000")
        host.sh(f"/usr/bin/python3 -I -c '{hammer}' 2000 < /dev/null", USER)
        begin = cpu(host.started[0].pid)
        assert host.open(64110).values["path"] == "/run/ccfs/64110"
        assert cpu(host.started[0].pid) - begin < 1
    finally:
        os.kill(daemon, signal.SIGCONT)
    host.close_all()
    wait_until(
        lambda: host.ask_as(USER, "mount deadline=15000").startswith("ok "), "they stay counted"
    )


def cpu(pid: int) -> float:
    """Seconds of a processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
