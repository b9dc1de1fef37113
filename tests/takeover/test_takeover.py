# SPDX-License-Identifier: MIT
"""A daemon that dies is replaced by one that takes its mount over: poison, hanging, new versions.

The programs that are mounted here are `ccfs` with a fault in it, or another version of it.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import ccfs
from ccfs.linux import mountinfo
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records
from tests.support.processes import parent
from tests.support.shell import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts without fusermount3")

IMAGE = records.ccache(["host/one", "host/two"])
FAULTY = """
import os, signal, sys
from ccfs.supervisor import supervisor
from ccfs.takeover import restart_policy
from ccfs.cli.main import main
from ccfs.daemon import main as daemon_main
from ccfs.ops import directories

supervisor.LOOK = supervisor.PATIENCE = 0.5
restart_policy.FIRST_PAUSE = 0.01
FAULT = "{fault}"


def poisoned(mkdir):
    def made(self, server, serial, name, at):
        if name == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        return mkdir(self, server, serial, name, at)

    return made


def killed_at(mkdir):
    def made(self, server, serial, name, at):
        if name.startswith(b"line-"):
            kill_at(int(name[5:]))
        return mkdir(self, server, serial, name, at)

    return made


def kill_at(left):
    # at that line of ccfs, counted from here on, whatever request it is of; once

    def trace(frame, event, argument):
        nonlocal left
        if event == "line" and "/ccfs/" in frame.f_code.co_filename:
            left -= 1
            if left == 0 and os.path.exists(os.environ["MARKER"]):
                os.unlink(os.environ["MARKER"])
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    frame = sys._getframe(1)
    while frame:
        frame.f_trace = trace
        frame = frame.f_back


def broken(serve):
    def served(options, ready):
        if options.takes_over:
            sys.exit(3)
        return serve(options, ready)

    return served


directories.Caches.mkdir = killed_at(poisoned(directories.Caches.mkdir))
if FAULT == "never up":
    import ccfs.daemon

    ccfs.daemon.serve = broken(daemon_main.serve)
sys.exit(main())
"""


@contextmanager
def searched(directory: Path) -> Iterator[None]:
    """Programs that are run find their modules there first, and none where they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(directory))
        patch.setenv("PYTHONSAFEPATH", "1")
        yield


@contextmanager
def program(tmp_path: Path, fault: str) -> Iterator[BackgroundMount]:
    """A mount with a ccache, served by a faulty `ccfs`."""
    (tmp_path / "faulty.py").write_text(FAULTY.format(fault=fault))
    with searched(tmp_path), background_mount("faulty") as here:
        here.mount()
        (here.path / "default/ccache").write_bytes(IMAGE)
        yield here


def test_request_that_kills_twice_is_refused(tmp_path: Path) -> None:
    """Other requests are answered before, during and after the take-over."""
    with program(tmp_path, "poison") as here:
        supervisor_pid = here.supervisor_pid()
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                (here.path / "caches/poison").mkdir()
        (here.path / "caches/fine").mkdir()
        assert sorted(os.listdir(here.path / "caches")) == ["fine", "tkt"]
        assert (here.path / "default/ccache").read_bytes() == IMAGE
        assert here.supervisor_pid() == supervisor_pid


STEP = 13
"""Of so many lines one is tried here; 1 for all of them."""
LINES = 1000
"""More than a request of this kind takes; the last ones are of those that come behind it."""


def test_kill_at_any_line_of_step_does_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the journal's entry, in it, behind it, before the reply and behind it: done once."""
    marker = tmp_path / "marker"
    monkeypatch.setenv("MARKER", str(marker))
    with program(tmp_path, "") as here:
        names = []
        for line in range(1, LINES, STEP):
            marker.touch()
            names.append(f"line-{line}")
            (here.path / "caches" / names[-1]).mkdir()
            assert sorted(os.listdir(here.path / "caches")) == sorted(["tkt", *names])
            wait_until(lambda: bool(here.info()) and not marker.exists(), "it does not die")
        events = (here.path / "events").read_text().splitlines()
        made = [line.split("\t")[3] for line in events if line.split("\t")[2] == "created"]
        assert made == ["tkt", *names]
        assert [int(line.split("\t")[0]) for line in events] == [*range(1, len(events) + 1)]


def test_hanging_daemon_is_replaced(tmp_path: Path) -> None:
    with program(tmp_path, "") as here:
        daemon = here.pid()
        os.kill(daemon, signal.SIGSTOP)
        assert here.pid() != daemon
        assert (here.path / "default/ccache").read_bytes() == IMAGE


def test_reissued_directories_and_set_times_survive_kill(tmp_path: Path) -> None:
    """A directory that the kernel takes for removed goes on as before, and so does what was set."""
    with program(tmp_path, "") as here:
        ccache = here.path / "default"
        (ccache / "credentials").rmdir()
        os.utime(ccache / "principal", (1e9, 1e9))
        inode = (ccache / "credentials").stat().st_ino
        (ccache / "kdc_offset").unlink()
        os.kill(here.pid(), signal.SIGKILL)
        assert (ccache / "credentials").stat().st_ino == inode
        assert len(os.listdir(ccache / "credentials")) == 2
        assert (ccache / "principal").stat().st_mtime == 1e9
        with (ccache / "kdc_offset").open("x") as file:
            file.write("7")


def test_takeovers_keep_only_superseded_bytes_that_are_open(tmp_path: Path) -> None:
    """A client that reads an old generation keeps that one, not all that came after it."""
    with program(tmp_path, "") as here:
        ccache = here.path / "default"
        with (ccache / "ccache").open("rb") as reader:
            for offset in range(5):
                (ccache / "kdc_offset").write_text(f"{offset}")
                os.kill(here.pid(), signal.SIGKILL)
            (ccache / "kdc_offset").write_text("-1")
            used = int(here.info()["bytes"])
            assert used == len(IMAGE) + len((ccache / "ccache").read_bytes())
            assert reader.read() == IMAGE


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_takeover_works_with_full_journal(small: Path) -> None:
    """A take-over needs none; what can't be kept is refused, before it and after it."""
    with background_mount() as here:
        done = here.run("mount", "--journal", str(small / "journal"), str(here.path))
        assert done.returncode == 0, done.stderr
        (here.path / "default/ccache").write_bytes(IMAGE)
        fill(small / "fill")
        made = ["tkt"]
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            make_ccaches(here, made)
        os.kill(here.pid(), signal.SIGKILL)
        assert (here.path / "default/ccache").read_bytes() == IMAGE
        assert sorted(os.listdir(here.path / "caches")) == sorted(made)
        (small / "fill").unlink()
        (here.path / "caches/more").mkdir()
        os.kill(here.pid(), signal.SIGKILL)
        assert sorted(os.listdir(here.path / "caches")) == sorted([*made, "more"])


def make_ccaches(here: BackgroundMount, made: list[str]) -> None:
    """Make one after the other, and note them."""
    for number in range(1000):
        (here.path / f"caches/n{number}").mkdir()
        made.append(f"n{number}")


def fill(path: Path) -> None:
    """Write until there is no room."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        with suppress(OSError):
            while True:
                os.write(file, bytes(4096))
    finally:
        os.close(file)


def test_killed_fork_server_is_replaced_when_needed(tmp_path: Path) -> None:
    """There is another one when it is wanted; a daemon does without."""
    with program(tmp_path, "") as here:
        for _ in range(2):
            daemon = here.pid()
            os.kill(parent(daemon), signal.SIGKILL)
            assert here.pid() == daemon
            os.kill(daemon, signal.SIGKILL)
            assert here.pid() != daemon
        assert (here.path / "default/ccache").read_bytes() == IMAGE


def test_clients_get_error_when_no_daemon_starts(tmp_path: Path) -> None:
    """The mount stays, dead, so that nothing is stored below; the next one has everything."""
    with program(tmp_path, "never up") as here:
        os.kill(here.pid(), signal.SIGKILL)
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.listdir(here.path / "caches")
        found = mountinfo.topmost(str(here.path))
        assert found is not None
        again = BackgroundMount(here.directory, "ccfs")
        again.mount("--replace")
        assert (here.path / "default/ccache").read_bytes() == IMAGE


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of ccfs, to be upgraded."""
    copy = tmp_path / "ccfs"
    ours = Path(ccfs.__file__).parent
    shutil.copytree(ours, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def upgrade(installed: Path, version: str, also: Callable[[Path], object] = lambda _: None) -> None:
    """Put another version in its place."""
    new = installed.with_name("new")
    shutil.copytree(installed, new, ignore=shutil.ignore_patterns("__pycache__"))
    init = new / "__init__.py"
    init.write_text(f'__version__ = "{version}"\n')
    also(new)
    shutil.rmtree(installed)
    new.rename(installed)


@contextmanager
def of_the_copy(installed: Path) -> Iterator[BackgroundMount]:
    """A mount that the copy serves."""
    with searched(installed.parent), background_mount() as here:
        here.mount()
        (here.path / "default/ccache").write_bytes(IMAGE)
        yield here


LOOP = """
import os, sys
path, count = sys.argv[1], 0
print("begun", flush=True)
while not os.path.exists(sys.argv[2]):
    name = f"{path}/caches/n{count % 7}"
    os.mkdir(name)
    os.listdir(path + "/caches")
    os.rmdir(name)
    count += 1
print(count)
"""


@contextmanager
def load(here: BackgroundMount) -> Iterator[None]:
    """A client that asks all the time, and must never see an error."""
    done = here.directory / "done"
    command = [sys.executable, "-c", LOOP, str(here.path), str(done)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "begun\n"
            yield
        finally:
            done.touch()
            said, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    assert int(said) > 0


def test_upgrade_is_not_noticed_by_clients(installed: Path) -> None:
    """Two versions, one after the other, under a client that asks all the time."""
    with of_the_copy(installed) as here, (here.path / "default/ccache").open("rb") as file:
        supervisor_pid, inode = here.supervisor_pid(), os.fstat(file.fileno()).st_ino
        with load(here):
            for version in ("0.9.8", "0.9.9"):
                upgrade(installed, version)
                done = here.run("restart", str(here.path))
                assert done.returncode == 0, done.stderr
                assert f"{version} now" in done.stderr
                assert here.info()["version"] == version
        assert os.pread(file.fileno(), 4096, 0) == IMAGE
        assert (os.fstat(file.fileno()).st_ino, here.supervisor_pid()) == (inode, supervisor_pid)


def break_it(code: Path) -> None:
    (code / "supervisor/supervisor.py").write_text("this is no Python")


def have_an_older_journal(code: Path) -> None:
    log = code / "journal/log.py"
    text = log.read_text()
    assert "VERSION = 7\n" in text
    log.write_text(text.replace("VERSION = 7\n", "VERSION = 5\n"))


@pytest.mark.parametrize("fault", [break_it, have_an_older_journal])
def test_restart_with_unusable_code_is_not_begun(
    installed: Path, fault: Callable[[Path], object]
) -> None:
    """The old code goes on, whatever is installed."""
    with of_the_copy(installed) as here:
        daemon, supervisor_pid = here.pid(), here.supervisor_pid()
        fork_server = parent(daemon)
        upgrade(installed, "0.9.9", fault)
        with suppress(ProcessLookupError):
            os.kill(supervisor_pid, signal.SIGHUP)
        wait_until(lambda: not checks(supervisor_pid, fork_server), "the new code is not checked")
        assert (here.pid(), here.supervisor_pid()) == (daemon, supervisor_pid)
        os.kill(daemon, signal.SIGKILL)
        assert here.info()["version"] == ccfs.__version__
        assert (here.path / "default/ccache").read_bytes() == IMAGE


def checks(supervisor_pid: int, fork_server: int) -> bool:
    """Whether the supervisor has a child beside its fork server: the check of the new code."""
    children = Path(f"/proc/{supervisor_pid}/task/{supervisor_pid}/children").read_text().split()
    return children != [str(fork_server)]
