# SPDX-License-Identifier: MIT
"""KCM of a real mount: its socket, what others hear of a change, and what it does under load."""

import contextlib
import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.errors import Exit
from ccfs.format.ccache import decode_ccache
from ccfs.format.principal import unparse_name
from tests.support import kcm
from tests.support.background_mount import background_mount
from tests.support.inotify import IN_ATTRIB, seen, watching
from tests.support.isolation import OWNER
from tests.support.kcm import Client, credential
from tests.support.mounting import TMPFS, MakeMount, Mounted, run_ccfs
from tests.support.shell import sh, waiting

TGT = "krbtgt/R@R"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kcm"


@pytest.fixture
def mounted(make_mount: MakeMount, path: Path) -> Mounted:
    return make_mount("--kcm-socket", str(path), "--no-journal")


@pytest.fixture
def client(mounted: Mounted, path: Path) -> Iterator[Client]:
    with Client(path) as made:
        yield made


def events(mounted: Mounted) -> list[list[str]]:
    lines = (mounted.path / "events").read_text().splitlines()
    return [line.split("\t") for line in lines]


def test_socket_is_private_and_removed_at_end(make_mount: MakeMount, path: Path) -> None:
    mounted = make_mount("--kcm-socket", str(path))
    status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert status.st_uid == os.geteuid()
    assert status.st_mode & 0o077 == 0
    assert mounted.ccfs("unmount").returncode == 0
    mounted.process.wait(20)
    assert not path.exists()


def test_socket_needs_option(make_mount: MakeMount) -> None:
    mounted = make_mount("--no-journal")
    assert "kcm" not in (mounted.path / "stats").read_text()


def test_stale_socket_is_replaced(make_mount: MakeMount, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    make_mount("--kcm-socket", str(path), "--no-journal")
    with Client(path) as client:
        assert client.default() == "tkt"


def test_replaced_socket_is_left(make_mount: MakeMount, path: Path) -> None:
    """The socket file belongs to another server."""
    mounted = make_mount("--kcm-socket", str(path), "--no-journal")
    path.unlink()
    path.write_text("something else")
    assert mounted.ccfs("unmount").returncode == 0
    mounted.process.wait(20)
    assert path.read_text() == "something else"


def refused(tmp_path: Path, path: Path, reason: str) -> None:
    """`ccfs mount` says in one line why it can't serve there, and leaves no mount."""
    mountpoint = tmp_path / "refused"
    done = run_ccfs("mount", "--no-journal", "--kcm-socket", path, mountpoint)
    assert done.returncode == Exit.KCM_SOCKET, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not mountpoint.exists() or os.listdir(mountpoint) == []


def test_live_socket_is_an_error(mounted: Mounted, path: Path, tmp_path: Path) -> None:
    refused(tmp_path, path, f"process {mounted.pid} serves at {path}")
    with Client(path) as client:
        assert client.default() == "tkt"


def test_unusable_socket_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    refused(tmp_path, tmp_path / "file", "is no socket")
    assert (tmp_path / "file").read_text() == "precious"
    refused(tmp_path, tmp_path / "absent" / "kcm", "there is no directory")
    refused(tmp_path, tmp_path / ("x" * 110), "too long")


def test_relative_socket_path_is_resolved(
    make_mount: MakeMount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_mount("--kcm-socket", "kcm", "--no-journal")
    with Client(tmp_path / "kcm") as client:
        assert client.default() == "tkt"


@AS_ROOT
def test_socket_refuses_other_users(make_mount: MakeMount) -> None:
    """The socket's mode says so, and where it would not, the kernel's word on who has connected."""
    ask = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(20)\n"
        "s.connect(sys.argv[1])\n"
        "try: s.sendall(bytes.fromhex('0000000402000014')); print(s.recv(100))\n"
        "except OSError: print(b'')\n"
    )
    other = f"setpriv --reuid={OWNER} --regid={OWNER} --clear-groups"
    with tempfile.TemporaryDirectory(prefix="ccfs-kcm-", dir=TMPFS) as directory:
        path = Path(directory, "kcm")
        path.parent.chmod(0o755)
        make_mount("--kcm-socket", str(path), "--no-journal")
        path.chmod(0o777)
        said = sh(Path("/"), f'{other} /usr/bin/python3 -I -c "$1" {path}', ask)
    assert said == "b''\n"


def test_kcm_change_reaches_events_fifos_inotify_and_caches(
    mounted: Mounted, client: Client
) -> None:
    """Events, both FIFOs, inotify, and the names and bytes that the kernel has cached."""
    client.initialize("tkt")
    ccache = mounted.path / "caches/tkt/ccache"
    before, number = ccache.read_bytes(), ccache.stat().st_ino
    with (
        waiting(mounted.path, "changed", "caches/tkt/changed") as woken,
        watching(mounted.path / "caches/tkt") as watch,
    ):
        client.store("tkt", credential(TGT))
        for process in woken:
            assert process.wait(20) == 0
        seen(watch, (IN_ATTRIB, b"ccache"))
    assert ccache.read_bytes() == before + credential(TGT)
    assert ccache.stat().st_ino != number
    comm = Path("/proc/self/comm").read_text().strip()
    assert events(mounted)[-1][2:] == [
        "stored",
        "tkt",
        TGT.replace("/", "%2F"),
        f"uid={os.geteuid()}",
        f"pid={os.getpid()}",
        comm,
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.initialize("tkt", "bob@R"),
        lambda c: c.replace("tkt", [credential(TGT)]),
        lambda c: c.call(kcm.REMOVE_CRED, c.name("tkt"), kcm.u32(0), kcm.tag(TGT)),
        lambda c: c.call(kcm.SET_KDC_OFFSET, c.name("tkt"), kcm.u32(3)),
        lambda c: c.call(kcm.DESTROY, c.name("tkt")),
        lambda c: c.call(kcm.SET_DEFAULT_CACHE, c.name("other")),
        lambda c: c.call(kcm.MOVE_CACHE, c.name("tkt"), c.name("moved")),
    ],
)
def test_kcm_changes_of_every_kind_wake_waiters(
    mounted: Mounted, client: Client, change: Callable[[Client], object]
) -> None:
    client.replace("tkt", [credential(TGT), credential("host/a@R")])
    with waiting(mounted.path, "changed", "caches/tkt/changed") as woken:
        change(client)
        for process in woken:
            assert process.wait(20) == 0


def test_ccache_moved_by_kcm_is_not_found_by_old_names(mounted: Mounted, client: Client) -> None:
    """The kernel has all names in its caches; only the daemon can invalidate them."""
    client.initialize("tkt")
    client.replace("work", [credential(TGT)])
    old = [mounted.path / "caches/work/ccache", mounted.path / "dir/tkt.work"]
    new = [mounted.path / "caches/tktnew/ccache", mounted.path / "dir/tktnew"]
    data = {path.read_bytes() for path in old}
    assert not any(path.exists() for path in new)
    client.call(kcm.MOVE_CACHE, client.name("work"), client.name("tktnew"))
    assert {path.read_bytes() for path in new} == data
    assert not any(path.exists() for path in old)
    assert sorted(os.listdir(mounted.path / "dir")) == ["primary", "tkt", "tktnew"]


def test_acknowledged_kcm_change_survives_kill(tmp_path: Path) -> None:
    """It is killed; the next one serves the same connection, with the same UUIDs."""
    with background_mount() as here:
        path = here.directory / "kcm"
        here.mount("--kcm-socket", str(path))
        with Client(path) as client:
            client.replace("work", [credential(TGT), credential("host/a@R")], offset=-7)
            client.call(kcm.SET_DEFAULT_CACHE, client.name("work"))
            before = client.call(kcm.GET_CRED_UUID_LIST, client.name("work"))
            old = here.info()
            os.kill(int(old["pid"]), 9)
            here.come_back(old["server_id"])
            assert client.default() == "work"
            assert client.records("work") == [credential(TGT), credential("host/a@R")]
            assert client.call(kcm.GET_CRED_UUID_LIST, client.name("work")) == before
            assert client.call(kcm.GET_KDC_OFFSET, client.name("work")) == kcm.u32(-7)


def test_daemon_restarts_although_socket_is_taken() -> None:
    """A change outside the mount loses no content of it."""
    with background_mount() as here, socket.socket(socket.AF_UNIX) as another:
        path = here.directory / "kcm"
        here.mount("--kcm-socket", str(path))
        with Client(path) as client:
            client.replace("work", [credential(TGT)])
        path.unlink()
        another.bind(str(path))
        another.listen()
        old = here.info()
        os.kill(int(old["pid"]), 9)
        here.come_back(old["server_id"])
        assert (here.path / "caches/work/ccache").exists()
        here.unmount()
        assert path.exists()


def test_readers_during_kcm_refresh_always_see_tgt(mounted: Mounted, path: Path) -> None:
    """Eight of them, through files and through KCM: there is always a TGT, and a whole ccache."""
    over, failures = threading.Event(), []
    looks = [0] * 8

    def reading(number: int) -> None:
        with Client(path) as client:
            while not over.is_set():
                servers = (through_file if number % 2 else through_kcm)(mounted, client)
                looks[number] += 1
                if servers[:1] != [TGT] or len(servers) not in (2, 5):
                    failures.append(servers)

    with Client(path) as client:
        client.replace("tkt", [credential(TGT), credential("host/a@R")])
        threads = [threading.Thread(target=reading, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for number in range(150):
            more = ["host/a@R"] if number % 2 else [f"host/h{n}@R" for n in range(4)]
            client.replace("tkt", [credential(one) for one in (TGT, *more)])
        over.set()
        for thread in threads:
            thread.join(30)
    assert not failures
    assert min(looks) > 0


def through_file(mounted: Mounted, _: Client) -> list[str]:
    held = decode_ccache((mounted.path / "default/ccache").read_bytes())
    return [unparse_name(one.server).decode() for one in held.credentials]


def through_kcm(_: Mounted, client: Client) -> list[str]:
    found = client.call(kcm.RETRIEVE, client.name("tkt"), kcm.u32(1), kcm.tag(TGT))
    records = client.records("tkt")
    assert found == records[0]
    servers = ["krbtgt/R@R", "host/a@R", *(f"host/h{n}@R" for n in range(4))]
    names = {credential(server): server for server in servers}
    return [names[record] for record in records]


def test_kcm_stores_megabyte_credentials(mounted: Mounted, client: Client) -> None:
    large = [credential(f"host/h{n}@R", ticket=os.urandom(1 << 20)) for n in range(3)]
    client.replace("tkt", large[:2])
    client.store("tkt", large[2])
    assert client.records("tkt") == large
    assert (mounted.path / "default/ccache").read_bytes().endswith(b"".join(large))


def test_kcm_serves_ten_thousand_credentials(mounted: Mounted, client: Client) -> None:
    """Replaced at once, listed, looked up one by one, and seen in the file."""
    records = [credential(f"host/h{n}@R", ticket=bytes(400)) for n in range(10_000)]
    client.replace("tkt", records)
    assert client.records("tkt") == records
    found = kcm.uuids(client.call(kcm.GET_CRED_UUID_LIST, client.name("tkt")))
    for number in (0, 4999, 9999):
        one = client.call(kcm.GET_CRED_BY_UUID, client.name("tkt"), found[number])
        assert one == records[number]
        tag = kcm.tag(f"host/h{number}@R", client="alice@R")
        assert client.call(kcm.RETRIEVE, client.name("tkt"), kcm.u32(1), tag) == one
    client.store("tkt", credential("host/last@R"))
    data = (mounted.path / "default/ccache").read_bytes()
    assert data.endswith(b"".join([*records[-5:], credential("host/last@R")]))


def test_kcm_serves_thousand_ccaches(mounted: Mounted, client: Client) -> None:
    names = [f"c{n}" for n in range(1000)]
    for name in names:
        client.replace(name, [credential(TGT, client=f"{name}@R")], client=f"{name}@R")
    assert client.ccaches() == names
    assert sorted(os.listdir(mounted.path / "caches")) == sorted(names)
    assert client.call(kcm.GET_PRINCIPAL, client.name("c777")) == kcm.principal("c777@R")
    for name in names[::2]:
        client.call(kcm.DESTROY, client.name(name))
    assert client.ccaches() == names[1::2]


def test_kcm_serves_thousand_connections(mounted: Mounted, path: Path) -> None:
    """Under the usual limit of 1,024 open files, which the daemon raises as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2200:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(path)) for _ in range(1000)]
            for _ in range(2):
                assert {client.default() for client in clients} == {"tkt"}
            assert (mounted.path / "info").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
