# SPDX-License-Identifier: MIT
"""Daemons that die or hang, and a ccfsd that does."""

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ccfs.ccfsd import received_connection
from ccfs.ccfsd.daemon_process import BUSY, DaemonProcess
from ccfs.control.messages import RefusedError
from ccfs.linux import privileges, processes
from ccfs.takeover.handover import Handover
from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host
from tests.support.ccfsd_clients import IMAGE, client, has_it, store
from tests.support.clients.python import records
from tests.support.processes import children, devices, ended, is_alive, pidfd, wchan
from tests.support.shell import wait_until

USER = 64103


@pytest.fixture
def bare_host() -> Iterator[CcfsdHost]:
    """A place without a ccfsd."""
    with ccfsd_host() as made:
        yield made


@pytest.fixture
def host(bare_host: CcfsdHost) -> CcfsdHost:
    """A place with one."""
    bare_host.start("--no-kcm")
    return bare_host


@pytest.fixture
def remounting(bare_host: CcfsdHost) -> CcfsdHost:
    """A place with one that mounts anew after each death."""
    bare_host.start("--no-kcm", "--mount-anew")
    return bare_host


def test_killed_daemon_is_replaced_with_mount_anew(remounting: CcfsdHost) -> None:
    """On the same path, with every credential; who waits in the dead mount goes on."""
    host = remounting
    host.open(USER)
    store(host, USER)
    daemon = host.daemon(USER)
    assert not children(daemon)
    waiter, _ = waiting(host, daemon)
    for _ in range(3):
        old = host.daemon(USER)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda old=old: host.daemon(USER) not in (0, old), "no new daemon")
        reply = host.ask_as(USER, "mount deadline=20000")
        assert reply.startswith(f"ok path=/run/ccfs/{USER} ")
        assert has_it(host, USER)
    assert waiter.wait(20) == 0
    assert len([mount for mount in host.mounts() if mount.is_ccfs]) == 1


def waiting(host: CcfsdHost, daemon: int) -> tuple[subprocess.Popen[str], int]:
    """Start a reader of a FIFO in a daemon's mount; yields it and the notifier's pid."""
    waiter = host.popen([*as_user(USER), "cat", f"/run/ccfs/{USER}/changed"])
    wait_until(lambda: "partner" in wchan(waiter.pid), "no waiter")
    wait_until(lambda: knows_the_way(daemon), "no notifier who knows the way")
    (notifier,) = children(daemon)
    return waiter, notifier


def knows_the_way(daemon: int) -> bool:
    """Whether the notifier has read an order, carried it out, and waits for the next."""
    return any(
        int(Path(f"/proc/{notifier}/io").read_text().split()[1]) >= 24
        and "pipe_read" in wchan(notifier)
        for notifier in children(daemon)
    )


@pytest.mark.parametrize("who", ["the notifier", "both", "the notifier, again and again"])
def test_stopped_processes_end_with_session(host: CcfsdHost, who: str) -> None:
    """Nothing of a session stays as a stopped process, which would have the daemon's memory."""
    session = host.open(USER).values["session"]
    daemon = host.daemon(USER)
    waiter, notifier = waiting(host, daemon)
    os.kill(notifier, signal.SIGSTOP)
    if who == "both":
        os.kill(daemon, signal.SIGSTOP)
    host.close(session)
    if "again" in who:
        with pidfd(notifier) as it:
            while not ended(it, 0.001):
                signal.pidfd_send_signal(it, signal.SIGSTOP)
        waiter.kill()
    waiter.wait(20)
    wait_until(host.is_empty, "something is left")


def test_stopped_notifier_ends_after_its_daemon(remounting: CcfsdHost) -> None:
    """The daemon's end is seen by this ccfsd or by the next."""
    host = remounting
    host.open(USER)
    ccfsd = host.started[-1]
    for follower in (None, ccfsd):
        old = host.daemon(USER)
        waiter, notifier = waiting(host, old)
        with pidfd(notifier) as it:
            os.kill(notifier, signal.SIGSTOP)
            if follower:
                follower.kill()
                follower.wait(20)
            os.kill(old, signal.SIGKILL)
            if follower:
                host.start("--no-kcm", "--mount-anew")
            assert ended(it)
        assert waiter.wait(20) == 0
        wait_until(lambda old=old: host.daemon(USER) not in (0, old), "no new daemon")


def kill(host: CcfsdHost, uid: int = USER) -> int:
    """Kill a daemon; returns the one after it, once that is known."""
    old = host.daemon(uid)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: host.daemon(uid) not in (0, old), "no new daemon")
    return host.daemon(uid)


def test_mount_and_lock_survive_killed_daemons(host: CcfsdHost) -> None:
    """However many die in a row: who is at home there notices nothing, and keeps a lock."""
    host.open(USER)
    store(host, USER)
    (mount,) = [mount for mount in host.mounts() if mount.is_ccfs]
    with client(host) as look:
        assert look() == host.daemon(USER)
        for _ in range(12):
            assert kill(host) == look()
            assert has_it(host, USER)
        locker = f"flock --nonblock /run/ccfs/{USER}/lock true"
        host.sh(f"! {locker}", USER)
    assert not host.lines("giving")
    assert [mount] == [mount for mount in host.mounts() if mount.is_ccfs]


def test_waiters_wake_for_changes_after_daemon_death(host: CcfsdHost) -> None:
    host.open(USER)
    waiter, notifier = waiting(host, host.daemon(USER))
    with pidfd(notifier) as it:
        os.kill(notifier, signal.SIGSTOP)
        kill(host)
        assert ended(it)
    store(host, USER)
    assert waiter.wait(20) == 0


def broken_journal(host: CcfsdHost, uid: int = USER) -> None:
    """Have no daemon of a user be able to begin."""
    host.sh(f"mount -t tmpfs -o mode=0 none /run/ccfs/journal/{uid}")


@pytest.mark.parametrize("options", [[], ["--mount-anew"]], ids=str)
def test_clients_get_error_when_no_daemon_starts(bare_host: CcfsdHost, options: list[str]) -> None:
    """After a while; nothing can be stored then, and asked again it comes back."""
    bare_host.start("--no-kcm", "--patience", "1", *options)
    session = bare_host.open(USER).values["session"]
    store(bare_host, USER)
    broken_journal(bare_host)
    os.kill(bare_host.daemon(USER), signal.SIGKILL)
    said = bare_host.sh(f"cat /run/ccfs/{USER}/info", USER, status=1)
    assert "connection abort" in said or "not connected" in said
    wait_until(lambda: bare_host.lines("giving"), "it goes on")
    bare_host.sh(f"echo > /run/ccfs/{USER}/default/ccache", USER, status=2)
    bare_host.sh(f"umount /run/ccfs/journal/{USER}")
    bare_host.open(USER)
    assert len([mount for mount in bare_host.mounts() if mount.is_ccfs]) == 1
    assert has_it(bare_host, USER)
    bare_host.close(session)


def test_late_daemon_takes_mount_over(bare_host: CcfsdHost) -> None:
    """Clients wait as long as there is hope."""
    bare_host.start("--no-kcm", "--patience", "30")
    bare_host.open(USER)
    store(bare_host, USER)
    broken_journal(bare_host)
    with client(bare_host) as look:
        os.kill(bare_host.daemon(USER), signal.SIGKILL)
        wait_until(lambda: len(bare_host.lines("replacing")) > 2, "no other tries")
        bare_host.sh(f"umount /run/ccfs/journal/{USER}")
        assert look() == bare_host.daemon(USER)
        assert has_it(bare_host, USER)


def test_hanging_daemon_is_replaced_on_its_mount(bare_host: CcfsdHost) -> None:
    bare_host.start("--no-kcm", "--hang", "1")
    bare_host.open(USER)
    with client(bare_host) as look:
        os.kill(bare_host.daemon(USER), signal.SIGSTOP)
        assert look() == bare_host.daemon(USER)
    assert bare_host.lines("killing")


def test_next_ccfsd_gets_fuse_connections_from_daemons(host: CcfsdHost) -> None:
    """It is given the link by each that it finds, and until then knows the old way."""
    host.open(USER)
    store(host, USER)
    with client(host) as look:
        host.started[0].kill()
        host.started[0].wait(20)
        host.start("--no-kcm")
        wait_until(lambda: len(devices(host.started[-1].pid)) == 1, "it has no link")
        assert kill(host) == look()
        assert has_it(host, USER)


@pytest.mark.parametrize("what", ["nothing", "one", "a file", "a pipe", "memory", "no FUSE"])
def test_descriptor_that_is_no_fuse_connection_is_closed(tmp_path: Path, what: str) -> None:
    """A daemon that isn't ours any more hands out anything; it is closed, and not looked into."""
    reader, writer = os.pipe()
    memory = Handover()
    memory.unmap()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    device = os.open("/dev/null", os.O_RDWR)
    given = {
        "nothing": [],
        "one": [memory.descriptor],
        "a file": [device, file],
        "a pipe": [device, reader],
        "memory": [memory.descriptor, device],
        "no FUSE": [device, memory.descriptor],
    }[what]
    assert received_connection.checked(given) is None
    for one in (reader, writer, memory.descriptor, file, device):
        if one in given:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(one)
        else:
            os.close(one)


def test_aborted_connection_is_replaced(host: CcfsdHost) -> None:
    host.open(USER)
    store(host, USER)
    (mount,) = [mount for mount in host.mounts() if mount.is_ccfs]
    old = host.daemon(USER)
    host.sh(f"echo 1 > /sys/fs/fuse/connections/{mount.connection}/abort")
    wait_until(lambda: host.daemon(USER) not in (0, old), "no new daemon")
    host.open(USER)
    assert has_it(host, USER)


def test_hanging_daemon_delays_only_its_own_clients(host: CcfsdHost) -> None:
    host.open(USER)
    daemon = host.daemon(USER)
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(RefusedError, match="does not answer"):
            host.open(USER, deadline=200)
        assert host.open(64104).values["path"] == "/run/ccfs/64104"
        assert host.status()["sessions"] == 2
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert host.open(USER).values["path"] == f"/run/ccfs/{USER}"


def test_daemon_hanging_for_long_is_replaced(bare_host: CcfsdHost) -> None:
    bare_host.start("--no-kcm", "--hang", "3")
    bare_host.open(USER)
    store(bare_host, USER)
    old = bare_host.daemon(USER)
    os.kill(old, signal.SIGSTOP)
    with contextlib.suppress(RefusedError):
        bare_host.open(USER, deadline=100)
    wait_until(lambda: bare_host.daemon(USER) not in (0, old), "it isn't replaced")
    bare_host.open(USER)
    assert has_it(bare_host, USER)
    assert not is_alive(old)
    assert bare_host.lines("killing")


def test_daemon_hanging_at_logout_is_killed(host: CcfsdHost) -> None:
    """Its journal is removed like any other."""
    session = host.open(USER).values["session"]
    store(host, USER)
    os.kill(host.daemon(USER), signal.SIGSTOP)
    host.close(session)
    wait_until(host.is_empty, "something is left")


def test_next_ccfsd_adopts_daemons_and_sessions(host: CcfsdHost) -> None:
    """Its daemons go on, the next one knows them and their sessions."""
    first, second = host.leader(USER), host.open(USER)
    own = host.open(64104, scope="session")
    store(host, USER)
    daemons = host.daemon(USER), host.daemon(own.values["path"].rpartition("/")[2])
    assert all(daemons)
    host.started[0].kill()
    host.started[0].wait(20)
    assert has_it(host, USER)
    host.start("--no-kcm")
    assert host.status()["sessions"] == 3
    assert has_it(host, USER)
    assert host.open(USER).values["path"] == f"/run/ccfs/{USER}"
    assert (host.daemon(USER), host.daemon(own.values["path"].rpartition("/")[2])) == daemons
    third = host.open(USER)
    assert int(third.values["session"]) > int(own.values["session"])
    first.end()
    for number in range(2, int(third.values["session"]) + 1):
        host.close(number)
    assert second.values["session"] == "2"
    wait_until(host.is_empty, "something is left")


def test_next_ccfsd_handles_deaths_in_its_absence(host: CcfsdHost) -> None:
    """A daemon dies, a leader dies, a mount is taken away: the next one puts it right."""
    leader = host.leader(64104)
    for uid in (USER, 64105):
        host.open(uid)
        store(host, uid)
    old = host.daemon(USER)
    host.started[0].terminate()
    assert host.started[0].wait(20) == 0
    with pidfd(old) as descriptor, pidfd(host.daemon(64105)) as another:
        os.kill(old, signal.SIGKILL)
        host.sh("fusermount3 -u /run/ccfs/64105", 64105)
        leader.end()
        assert ended(descriptor)
        assert ended(another)
    host.start("--no-kcm")
    host.open(USER)
    assert has_it(host, USER)
    assert host.daemon(USER) != old
    host.open(64105)
    assert not has_it(host, 64105)
    wait_until(lambda: "64104" not in os.listdir(host.run), "a mount without a session")


def test_damaged_state_keeps_daemons_found_in_mount_table(host: CcfsdHost) -> None:
    """Daemons are found in the kernel's mount table, and wait for a request."""
    host.open(USER)
    store(host, USER)
    daemon = host.daemon(USER)
    host.started[0].kill()
    host.started[0].wait(20)
    (host.run / "state").write_text('{"version": 1, "mounts": [7')
    host.start("--no-kcm")
    assert host.status()["sessions"] == 0
    session = host.open(USER).values["session"]
    assert host.daemon(USER) == daemon
    assert has_it(host, USER)
    host.close(session)
    wait_until(host.is_empty, "something is left")


def test_leftover_directories_and_mounts_are_removed(bare_host: CcfsdHost) -> None:
    """Directories, sockets and mounts without a server are removed; all else is not ccfsd's."""
    bare_host.sh(
        f"""mkdir -p -m 755 /run/ccfs && cd /run/ccfs && mkdir -m 0 {USER} 64104
        mkdir -m 700 daemons && mkfifo daemons/{USER}.life && touch daemons/{USER} other
        mkdir -m 711 journal && mkdir journal/{USER}
        mount -t tmpfs -o uid={USER},mode=700 x journal/{USER}"""
    )
    bare_host.start("--no-kcm")
    wait_until(bare_host.is_empty, "something is left")
    assert (bare_host.run / "other").exists()


def test_idle_daemon_without_content_ends(bare_host: CcfsdHost) -> None:
    """A daemon whose mount is in use stays, and one whose store has content."""
    bare_host.start("--no-kcm", "--idle", "1")
    for uid in (USER, 64104, 64105):
        assert bare_host.ask_as(uid, "mount deadline=20000").startswith("ok ")
    store(bare_host, 64104)
    session = bare_host.open(64105).values["session"]
    wait_until(lambda: str(USER) not in os.listdir(bare_host.run), "it stays")
    assert has_it(bare_host, 64104)
    assert bare_host.daemon(64105)
    bare_host.close(session)
    bare_host.sh("kdestroy -q -c FILE:/run/ccfs/64104/default/ccache; true", 64104)
    bare_host.sh("rm -f /run/ccfs/64104/default/ccache", 64104)
    wait_until(bare_host.is_empty, "something is left")


EXPIRED = IMAGE.replace(struct.pack(">I", records.ENDLESS), struct.pack(">I", 2))


def test_daemon_with_expired_tickets_ends(bare_host: CcfsdHost) -> None:
    """A uid may be another service's by then (DynamicUser=)."""
    bare_host.start("--no-kcm", "--idle", "1")
    assert bare_host.ask_as(USER, "mount deadline=20000").startswith("ok ")
    path = bare_host.directory / "expired"
    path.write_bytes(EXPIRED)
    path.chmod(0o644)
    bare_host.sh(f"cat {path} > /run/ccfs/{USER}/default/ccache", USER)
    wait_until(bare_host.is_empty, "it stays")


def test_logout_keeps_mount_requested_without_session(host: CcfsdHost) -> None:
    """A mount opened without a session does not end with a session."""
    assert host.ask_as(USER, "mount deadline=20000").startswith("ok ")
    store(host, USER)
    daemon = host.daemon(USER)
    host.close(host.open(USER).values["session"])
    assert has_it(host, USER)
    assert host.daemon(USER) == daemon


def test_mount_lasts_for_grace_after_last_session(bare_host: CcfsdHost) -> None:
    """A session that begins meanwhile keeps it as if nothing had been."""
    bare_host.start("--no-kcm", "--grace", "1")
    session = bare_host.open(USER).values["session"]
    store(bare_host, USER)
    bare_host.close(session)
    assert has_it(bare_host, USER)
    bare_host.close(bare_host.open(USER).values["session"])
    assert has_it(bare_host, USER)
    wait_until(bare_host.is_empty, "it stays")


def test_mount_ends_when_linger_ends(bare_host: CcfsdHost) -> None:
    bare_host.start("--no-kcm", "--linger-directory", "/run/systemd/linger")
    linger = bare_host.root / "run/systemd/linger" / f"ccfs{USER}"
    linger.touch()
    bare_host.close(bare_host.open(USER).values["session"])
    assert bare_host.daemon(USER)
    linger.unlink()
    wait_until(bare_host.is_empty, "it stays")


def test_busy_daemon_is_not_taken_for_hung() -> None:
    """Not for long; and one that sleeps, or was stopped, is at once."""

    async def scene(process: processes.Process, busy: subprocess.Popen[bytes]) -> None:
        daemon = DaemonProcess(process, -1, -1)
        daemon.is_serving = True
        daemon.note_ping()
        assert [daemon.is_busy() for _ in range(BUSY + 1)] == [True] * BUSY + [False]
        busy.send_signal(signal.SIGSTOP)
        wait_until(lambda: not state_is_running(busy.pid), "it runs")
        daemon.note_reply()
        daemon.note_ping()
        assert not daemon.is_busy()

    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            process = processes.find(busy.pid)
            assert process is not None
            trio.run(scene, process, busy)
        finally:
            busy.kill()


def state_is_running(pid: int) -> bool:
    """Whether a process has a core, or waits for one."""
    return ") R " in Path(f"/proc/{pid}/stat").read_text()


def names(host: CcfsdHost) -> list[str]:
    """The names of the child processes of ccfsd that have not ended."""
    found = children(host.started[0].pid)
    return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in found if is_alive(pid)]


def test_killed_fork_server_is_replaced_at_once(host: CcfsdHost) -> None:
    """By one that is executed cold, and doesn't have what ccfsd has."""
    (killed,) = children(host.started[0].pid)
    with pidfd(killed) as descriptor:
        os.kill(killed, signal.SIGKILL)
        assert ended(descriptor)
    wait_until(lambda: names(host) == ["ccfsd-forkserv"], "there is no other")
    (fork_server,) = children(host.started[0].pid)
    assert fork_server != killed
    assert opened(fork_server) == {"/dev/null", "socket", "log"}
    assert not Path(f"/proc/{fork_server}/environ").read_bytes().strip(b"\0")
    host.close(host.open(USER).values["session"])
    wait_until(host.is_empty, "something is left")


def test_daemons_survive_their_fork_server(host: CcfsdHost) -> None:
    """The next ones are forked from another."""
    host.open(USER)
    store(host, USER)
    (fork_server,) = children(host.started[0].pid)
    with pidfd(fork_server) as descriptor:
        os.kill(fork_server, signal.SIGKILL)
        assert ended(descriptor)
    assert host.open(64104).values["path"] == "/run/ccfs/64104"
    assert has_it(host, USER)
    old = host.daemon(USER)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: host.daemon(USER) not in (0, old), "no new daemon")
    host.open(USER)
    assert has_it(host, USER)
    assert len(children(host.started[0].pid)) == 1


def test_stop_ends_all_mounts_and_processes(host: CcfsdHost) -> None:
    for uid in (USER, 64104):
        host.open(uid)
        store(host, uid)
    host.started[0].poll()
    stop = host.launch("--stop")
    assert stop.wait(30) == 0
    assert host.started[0].wait(20) == 0
    assert host.is_empty()
    assert host.launch("--stop").wait(30) == 9


def test_daemon_has_no_privileges(host: CcfsdHost) -> None:
    """Capabilities, ids, descriptors, environment: nothing of root's, and nothing of ccfsd's."""
    host.open(USER)
    daemon = host.daemon(USER)
    host.sh(f"stat /run/ccfs/{USER}/changed", USER)
    wait_until(lambda: knows_the_way(daemon), "no notifier")
    (notifier,) = children(daemon)
    for pid in (daemon, notifier):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        *others, at_files = status["Uid"].split()
        assert {*others} == {str(privileges.service_uid())}
        assert {at_files, *status["Gid"].split()} == {str(USER)}
        assert status["Groups"].split() == [str(USER)]
        assert int(status["SigBlk"], 16) == 0
        assert status["Umask"] == "0077"
        assert not Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0")
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) == daemon
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    few = {"/dev/null", "pipe", "log", f"{USER}.life"}
    wait_until(lambda: opened(notifier) == few, "it holds more")
    nothing_kept = {
        "/dev/null", "/dev/fuse", "pipe", "socket", "log",
        "anon_inode:[eventpoll]", "/proc/loadavg", f"{USER}.life", MEMORY,
    }  # fmt: skip
    assert opened(daemon) == nothing_kept
    store(host, USER)
    assert opened(daemon) == nothing_kept | {"journal"}
    for look in ("ls {}/fd", "cat {}/mem", "cat {}/environ", "cat {}/maps"):
        said = host.sh(look.format(f"/proc/{daemon}"), USER, status=None)
        assert "ermission denied" in said


MEMORY = "memfd:ccfs-handover (deleted)"


def opened(pid: int) -> set[str]:
    """What a process has open; what is below a directory of ours by its last name."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        kind = target.partition(":")[0]
        if kind in ("pipe", "socket"):
            target = kind
        elif not target.startswith(("/dev/null", "/dev/fuse", "/proc/")) and "/" in target:
            target = target.rpartition("/")[2]
        found.add(target)
    return found


def test_daemon_loading_full_journal_is_not_replaced(bare_host: CcfsdHost) -> None:
    """Loading takes longer than `--hang`; CPU time that is used shows that it goes on."""
    bare_host.start("--no-kcm", "--hang", "0.3")
    bare_host.open(USER)
    header = b"\5\4\0\0" + b"\0\0\0\1\0\0\0\1\0\0\0\1R\0\0\0\1u"
    record = bytes(12 + 12 + 6 + 16 + 1 + 4 + 4 + 4 + 4 + 4)
    content = bare_host.run.parent / "full"
    content.write_bytes(header + 99_000 * record)
    content.chmod(0o644)
    path = f"/run/ccfs/{USER}/default/ccache"
    with content.open("rb") as given:
        bare_host.popen(
            [*as_user(USER), "dd", f"of={path}", "bs=1M", "status=none"], stdin=given
        ).wait(60)
    old = bare_host.daemon(USER)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: bare_host.daemon(USER) not in (0, old), "it isn't replaced")
    reply = bare_host.ask_as(USER, "mount deadline=30000")
    assert reply.startswith("ok "), reply
    assert not bare_host.lines("killing")
    listed = bare_host.popen(
        [*as_user(USER), "grep", "^credentials:", f"/run/ccfs/{USER}/info"],
        stdout=subprocess.PIPE,
    ).communicate(timeout=20)[0]
    assert listed.split()[1] == "99000"
