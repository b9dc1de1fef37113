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
from tests.support.ccfsd import Place, as_user, place
from tests.support.ccfsd_clients import IMAGE, client, has_it, store
from tests.support.clients.python import records
from tests.support.processes import children, devices, ended, is_alive, pidfd, wchan
from tests.support.shell import wait_until

USER = 64103


@pytest.fixture
def bare() -> Iterator[Place]:
    """A place without a ccfsd."""
    with place() as made:
        yield made


@pytest.fixture
def here(bare: Place) -> Place:
    """A place with one."""
    bare.start("--no-kcm")
    return bare


@pytest.fixture
def remounting(bare: Place) -> Place:
    """A place with one that mounts anew after each death."""
    bare.start("--no-kcm", "--mount-anew")
    return bare


def test_killed_daemon_is_replaced_with_mount_anew(remounting: Place) -> None:
    """On the same path, with every credential; who waits in the dead mount goes on."""
    here = remounting
    here.open(USER)
    store(here, USER)
    daemon = here.daemon(USER)
    assert not children(daemon)
    waiter, _ = waiting(here, daemon)
    for _ in range(3):
        old = here.daemon(USER)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda old=old: here.daemon(USER) not in (0, old), "no new daemon")
        reply = here.ask_as(USER, "mount deadline=20000")
        assert reply.startswith(f"ok path=/run/ccfs/{USER} ")
        assert has_it(here, USER)
    assert waiter.wait(20) == 0
    assert len([mount for mount in here.mounts() if mount.is_ccfs]) == 1


def waiting(here: Place, daemon: int) -> tuple[subprocess.Popen[str], int]:
    """One who waits at a FIFO of a daemon's mount, and the helper who can wake them."""
    waiter = here.popen([*as_user(USER), "cat", f"/run/ccfs/{USER}/changed"])
    wait_until(lambda: "partner" in wchan(waiter.pid), "no waiter")
    wait_until(lambda: knows_the_way(daemon), "no helper who knows the way")
    (helper,) = children(daemon)
    return waiter, helper


def knows_the_way(daemon: int) -> bool:
    """Whether the helper has read an order, carried it out, and waits for the next."""
    return any(
        int(Path(f"/proc/{helper}/io").read_text().split()[1]) >= 24
        and "pipe_read" in wchan(helper)
        for helper in children(daemon)
    )


@pytest.mark.parametrize("who", ["the helper", "both", "the helper, again and again"])
def test_stopped_processes_end_with_session(here: Place, who: str) -> None:
    """Nothing of a session stays as a stopped process, which would have the daemon's memory."""
    session = here.open(USER).values["session"]
    daemon = here.daemon(USER)
    waiter, helper = waiting(here, daemon)
    os.kill(helper, signal.SIGSTOP)
    if who == "both":
        os.kill(daemon, signal.SIGSTOP)
    here.close(session)
    if "again" in who:
        with pidfd(helper) as it:
            while not ended(it, 0.001):
                signal.pidfd_send_signal(it, signal.SIGSTOP)
        waiter.kill()
    waiter.wait(20)
    wait_until(here.is_empty, "something is left")


def test_stopped_notifier_ends_after_its_daemon(remounting: Place) -> None:
    """Whoever sees the end of the daemon, this ccfsd or the next."""
    here = remounting
    here.open(USER)
    ccfsd = here.started[-1]
    for follower in (None, ccfsd):
        old = here.daemon(USER)
        waiter, helper = waiting(here, old)
        with pidfd(helper) as it:
            os.kill(helper, signal.SIGSTOP)
            if follower:
                follower.kill()
                follower.wait(20)
            os.kill(old, signal.SIGKILL)
            if follower:
                here.start("--no-kcm", "--mount-anew")
            assert ended(it)
        assert waiter.wait(20) == 0
        wait_until(lambda old=old: here.daemon(USER) not in (0, old), "no new daemon")


def kill(where: Place, uid: int = USER) -> int:
    """Kill a daemon; returns the one after it, once that is known."""
    old = where.daemon(uid)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: where.daemon(uid) not in (0, old), "no new daemon")
    return where.daemon(uid)


def test_mount_and_lock_survive_killed_daemons(here: Place) -> None:
    """However many die in a row: who is at home there notices nothing, and keeps a lock."""
    here.open(USER)
    store(here, USER)
    (mount,) = [mount for mount in here.mounts() if mount.is_ccfs]
    with client(here) as look:
        assert look() == here.daemon(USER)
        for _ in range(12):
            assert kill(here) == look()
            assert has_it(here, USER)
        locker = f"flock --nonblock /run/ccfs/{USER}/lock true"
        here.sh(f"! {locker}", USER)
    assert not here.lines("giving")
    assert [mount] == [mount for mount in here.mounts() if mount.is_ccfs]


def test_waiters_wake_for_changes_after_daemon_death(here: Place) -> None:
    here.open(USER)
    waiter, helper = waiting(here, here.daemon(USER))
    with pidfd(helper) as it:
        os.kill(helper, signal.SIGSTOP)
        kill(here)
        assert ended(it)
    store(here, USER)
    assert waiter.wait(20) == 0


def broken_journal(where: Place, uid: int = USER) -> None:
    """Have no daemon of a user be able to begin."""
    where.sh(f"mount -t tmpfs -o mode=0 none /run/ccfs/journal/{uid}")


@pytest.mark.parametrize("options", [[], ["--mount-anew"]], ids=str)
def test_clients_get_error_when_no_daemon_starts(bare: Place, options: list[str]) -> None:
    """After a while; nothing can be stored then, and asked again it comes back."""
    bare.start("--no-kcm", "--patience", "1", *options)
    session = bare.open(USER).values["session"]
    store(bare, USER)
    broken_journal(bare)
    os.kill(bare.daemon(USER), signal.SIGKILL)
    said = bare.sh(f"cat /run/ccfs/{USER}/info", USER, status=1)
    assert "connection abort" in said or "not connected" in said
    wait_until(lambda: bare.lines("giving"), "it goes on")
    bare.sh(f"echo > /run/ccfs/{USER}/default/ccache", USER, status=2)
    bare.sh(f"umount /run/ccfs/journal/{USER}")
    bare.open(USER)
    assert len([mount for mount in bare.mounts() if mount.is_ccfs]) == 1
    assert has_it(bare, USER)
    bare.close(session)


def test_late_daemon_takes_mount_over(bare: Place) -> None:
    """Clients wait as long as there is hope."""
    bare.start("--no-kcm", "--patience", "30")
    bare.open(USER)
    store(bare, USER)
    broken_journal(bare)
    with client(bare) as look:
        os.kill(bare.daemon(USER), signal.SIGKILL)
        wait_until(lambda: len(bare.lines("replacing")) > 2, "no other tries")
        bare.sh(f"umount /run/ccfs/journal/{USER}")
        assert look() == bare.daemon(USER)
        assert has_it(bare, USER)


def test_hanging_daemon_is_replaced_on_its_mount(bare: Place) -> None:
    bare.start("--no-kcm", "--hang", "1")
    bare.open(USER)
    with client(bare) as look:
        os.kill(bare.daemon(USER), signal.SIGSTOP)
        assert look() == bare.daemon(USER)
    assert bare.lines("killing")


def test_next_ccfsd_gets_fuse_connections_from_daemons(here: Place) -> None:
    """It is given the link by each that it finds, and until then knows the old way."""
    here.open(USER)
    store(here, USER)
    with client(here) as look:
        here.started[0].kill()
        here.started[0].wait(20)
        here.start("--no-kcm")
        wait_until(lambda: len(devices(here.started[-1].pid)) == 1, "it has no link")
        assert kill(here) == look()
        assert has_it(here, USER)


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


def test_aborted_connection_is_replaced(here: Place) -> None:
    here.open(USER)
    store(here, USER)
    (mount,) = [mount for mount in here.mounts() if mount.is_ccfs]
    old = here.daemon(USER)
    here.sh(f"echo 1 > /sys/fs/fuse/connections/{mount.connection}/abort")
    wait_until(lambda: here.daemon(USER) not in (0, old), "no new daemon")
    here.open(USER)
    assert has_it(here, USER)


def test_hanging_daemon_delays_only_its_own_clients(here: Place) -> None:
    here.open(USER)
    daemon = here.daemon(USER)
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(RefusedError, match="does not answer"):
            here.open(USER, deadline=200)
        assert here.open(64104).values["path"] == "/run/ccfs/64104"
        assert here.status()["sessions"] == 2
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert here.open(USER).values["path"] == f"/run/ccfs/{USER}"


def test_daemon_hanging_for_long_is_replaced(bare: Place) -> None:
    bare.start("--no-kcm", "--hang", "3")
    bare.open(USER)
    store(bare, USER)
    old = bare.daemon(USER)
    os.kill(old, signal.SIGSTOP)
    with contextlib.suppress(RefusedError):
        bare.open(USER, deadline=100)
    wait_until(lambda: bare.daemon(USER) not in (0, old), "it isn't replaced")
    bare.open(USER)
    assert has_it(bare, USER)
    assert not is_alive(old)
    assert bare.lines("killing")


def test_daemon_hanging_at_logout_is_killed(here: Place) -> None:
    """And its journal is gone like any other."""
    session = here.open(USER).values["session"]
    store(here, USER)
    os.kill(here.daemon(USER), signal.SIGSTOP)
    here.close(session)
    wait_until(here.is_empty, "something is left")


def test_next_ccfsd_adopts_daemons_and_sessions(here: Place) -> None:
    """Its daemons go on, the next one knows them and their sessions."""
    first, second = here.leader(USER), here.open(USER)
    own = here.open(64104, scope="session")
    store(here, USER)
    daemons = here.daemon(USER), here.daemon(own.values["path"].rpartition("/")[2])
    assert all(daemons)
    here.started[0].kill()
    here.started[0].wait(20)
    assert has_it(here, USER)
    here.start("--no-kcm")
    assert here.status()["sessions"] == 3
    assert has_it(here, USER)
    assert here.open(USER).values["path"] == f"/run/ccfs/{USER}"
    assert (here.daemon(USER), here.daemon(own.values["path"].rpartition("/")[2])) == daemons
    third = here.open(USER)
    assert int(third.values["session"]) > int(own.values["session"])
    first.end()
    for number in range(2, int(third.values["session"]) + 1):
        here.close(number)
    assert second.values["session"] == "2"
    wait_until(here.is_empty, "something is left")


def test_next_ccfsd_handles_deaths_in_its_absence(here: Place) -> None:
    """A daemon dies, a leader dies, a mount is taken away: the next one puts it right."""
    leader = here.leader(64104)
    for uid in (USER, 64105):
        here.open(uid)
        store(here, uid)
    old = here.daemon(USER)
    here.started[0].terminate()
    assert here.started[0].wait(20) == 0
    with pidfd(old) as descriptor, pidfd(here.daemon(64105)) as another:
        os.kill(old, signal.SIGKILL)
        here.sh("fusermount3 -u /run/ccfs/64105", 64105)
        leader.end()
        assert ended(descriptor)
        assert ended(another)
    here.start("--no-kcm")
    here.open(USER)
    assert has_it(here, USER)
    assert here.daemon(USER) != old
    here.open(64105)
    assert not has_it(here, 64105)
    wait_until(lambda: "64104" not in os.listdir(here.run), "a mount without a session")


def test_damaged_state_keeps_daemons_found_in_mount_table(here: Place) -> None:
    """Daemons are found by what the kernel says, and wait for somebody to ask."""
    here.open(USER)
    store(here, USER)
    daemon = here.daemon(USER)
    here.started[0].kill()
    here.started[0].wait(20)
    (here.run / "state").write_text('{"version": 1, "mounts": [7')
    here.start("--no-kcm")
    assert here.status()["sessions"] == 0
    session = here.open(USER).values["session"]
    assert here.daemon(USER) == daemon
    assert has_it(here, USER)
    here.close(session)
    wait_until(here.is_empty, "something is left")


def test_leftover_directories_and_mounts_are_removed(bare: Place) -> None:
    """Directories, sockets and mounts that nobody serves are cleared away; the rest isn't ours."""
    bare.sh(
        f"""mkdir -p -m 755 /run/ccfs && cd /run/ccfs && mkdir -m 0 {USER} 64104
        mkdir -m 700 daemons && mkfifo daemons/{USER}.life && touch daemons/{USER} other
        mkdir -m 711 journal && mkdir journal/{USER}
        mount -t tmpfs -o uid={USER},mode=700 x journal/{USER}"""
    )
    bare.start("--no-kcm")
    wait_until(bare.is_empty, "something is left")
    assert (bare.run / "other").exists()


def test_idle_daemon_without_content_ends(bare: Place) -> None:
    """One that somebody looks at stays, and one that has something to keep."""
    bare.start("--no-kcm", "--idle", "1")
    for uid in (USER, 64104, 64105):
        assert bare.ask_as(uid, "mount deadline=20000").startswith("ok ")
    store(bare, 64104)
    session = bare.open(64105).values["session"]
    wait_until(lambda: str(USER) not in os.listdir(bare.run), "it stays")
    assert has_it(bare, 64104)
    assert bare.daemon(64105)
    bare.close(session)
    bare.sh("kdestroy -q -c FILE:/run/ccfs/64104/default/ccache; true", 64104)
    bare.sh("rm -f /run/ccfs/64104/default/ccache", 64104)
    wait_until(bare.is_empty, "something is left")


EXPIRED = IMAGE.replace(struct.pack(">I", records.ENDLESS), struct.pack(">I", 2))


def test_daemon_with_expired_tickets_ends(bare: Place) -> None:
    """A uid may be another service's by then (DynamicUser=)."""
    bare.start("--no-kcm", "--idle", "1")
    assert bare.ask_as(USER, "mount deadline=20000").startswith("ok ")
    path = bare.directory / "expired"
    path.write_bytes(EXPIRED)
    path.chmod(0o644)
    bare.sh(f"cat {path} > /run/ccfs/{USER}/default/ccache", USER)
    wait_until(bare.is_empty, "it stays")


def test_logout_keeps_mount_requested_without_session(here: Place) -> None:
    """What was asked for without a session doesn't end with one."""
    assert here.ask_as(USER, "mount deadline=20000").startswith("ok ")
    store(here, USER)
    daemon = here.daemon(USER)
    here.close(here.open(USER).values["session"])
    assert has_it(here, USER)
    assert here.daemon(USER) == daemon


def test_mount_lasts_for_grace_after_last_session(bare: Place) -> None:
    """A session that begins meanwhile keeps it as if nothing had been."""
    bare.start("--no-kcm", "--grace", "1")
    session = bare.open(USER).values["session"]
    store(bare, USER)
    bare.close(session)
    assert has_it(bare, USER)
    bare.close(bare.open(USER).values["session"])
    assert has_it(bare, USER)
    wait_until(bare.is_empty, "it stays")


def test_mount_ends_when_linger_ends(bare: Place) -> None:
    bare.start("--no-kcm", "--linger-directory", "/run/systemd/linger")
    linger = bare.root / "run/systemd/linger" / f"ccfs{USER}"
    linger.touch()
    bare.close(bare.open(USER).values["session"])
    assert bare.daemon(USER)
    linger.unlink()
    wait_until(bare.is_empty, "it stays")


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


def names(where: Place) -> list[str]:
    """The names of the child processes of ccfsd that have not ended."""
    found = children(where.started[0].pid)
    return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in found if is_alive(pid)]


def test_killed_fork_server_is_replaced_at_once(here: Place) -> None:
    """By one that is executed cold, and doesn't have what ccfsd has."""
    (killed,) = children(here.started[0].pid)
    with pidfd(killed) as descriptor:
        os.kill(killed, signal.SIGKILL)
        assert ended(descriptor)
    wait_until(lambda: names(here) == ["ccfsd-forkserv"], "there is no other")
    (fork_server,) = children(here.started[0].pid)
    assert fork_server != killed
    assert opened(fork_server) == {"/dev/null", "socket", "log"}
    assert not Path(f"/proc/{fork_server}/environ").read_bytes().strip(b"\0")
    here.close(here.open(USER).values["session"])
    wait_until(here.is_empty, "something is left")


def test_daemons_survive_their_fork_server(here: Place) -> None:
    """The next ones are forked from another."""
    here.open(USER)
    store(here, USER)
    (fork_server,) = children(here.started[0].pid)
    with pidfd(fork_server) as descriptor:
        os.kill(fork_server, signal.SIGKILL)
        assert ended(descriptor)
    assert here.open(64104).values["path"] == "/run/ccfs/64104"
    assert has_it(here, USER)
    old = here.daemon(USER)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: here.daemon(USER) not in (0, old), "no new daemon")
    here.open(USER)
    assert has_it(here, USER)
    assert len(children(here.started[0].pid)) == 1


def test_stop_ends_all_mounts_and_processes(here: Place) -> None:
    for uid in (USER, 64104):
        here.open(uid)
        store(here, uid)
    here.started[0].poll()
    stop = here.launch("--stop")
    assert stop.wait(30) == 0
    assert here.started[0].wait(20) == 0
    assert here.is_empty()
    assert here.launch("--stop").wait(30) == 9


def test_daemon_has_no_privileges(here: Place) -> None:
    """Capabilities, ids, descriptors, environment: nothing of root's, and nothing of ccfsd's."""
    here.open(USER)
    daemon = here.daemon(USER)
    here.sh(f"stat /run/ccfs/{USER}/changed", USER)
    wait_until(lambda: knows_the_way(daemon), "no helper")
    (helper,) = children(daemon)
    for pid in (daemon, helper):
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
    wait_until(lambda: opened(helper) == few, "it holds more")
    nothing_kept = {
        "/dev/null", "/dev/fuse", "pipe", "socket", "log",
        "anon_inode:[eventpoll]", "/proc/loadavg", f"{USER}.life", MEMORY,
    }  # fmt: skip
    assert opened(daemon) == nothing_kept
    store(here, USER)
    assert opened(daemon) == nothing_kept | {"journal"}
    for look in ("ls {}/fd", "cat {}/mem", "cat {}/environ", "cat {}/maps"):
        said = here.sh(look.format(f"/proc/{daemon}"), USER, status=None)
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


def test_daemon_loading_full_journal_is_not_replaced(bare: Place) -> None:
    """Loading takes longer than `--hang`; CPU time that is used shows that it goes on."""
    bare.start("--no-kcm", "--hang", "0.3")
    bare.open(USER)
    header = b"\5\4\0\0" + b"\0\0\0\1\0\0\0\1\0\0\0\1R\0\0\0\1u"
    record = bytes(12 + 12 + 6 + 16 + 1 + 4 + 4 + 4 + 4 + 4)
    content = bare.run.parent / "full"
    content.write_bytes(header + 99_000 * record)
    content.chmod(0o644)
    path = f"/run/ccfs/{USER}/default/ccache"
    with content.open("rb") as given:
        bare.popen([*as_user(USER), "dd", f"of={path}", "bs=1M", "status=none"], stdin=given).wait(
            60
        )
    old = bare.daemon(USER)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: bare.daemon(USER) not in (0, old), "it isn't replaced")
    reply = bare.ask_as(USER, "mount deadline=30000")
    assert reply.startswith("ok "), reply
    assert not bare.lines("killing")
    listed = bare.popen(
        [*as_user(USER), "grep", "^credentials:", f"/run/ccfs/{USER}/info"],
        stdout=subprocess.PIPE,
    ).communicate(timeout=20)[0]
    assert listed.split()[1] == "99000"
