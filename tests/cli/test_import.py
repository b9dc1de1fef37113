# SPDX-License-Identifier: MIT
"""`ccfs import` and `ccfs export` on a real mount, with ccaches that real programs made."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import krb5
import pytest

from ccfs.cli.import_ import residual as residuals
from ccfs.cli.import_.open_sources import open_sources
from ccfs.cli.main import main
from ccfs.errors import Exit, SourceError
from ccfs.journal import location
from tests.support.clients.python import records
from tests.support.kdc import Kdc
from tests.support.mounting import TMPFS, MakeMount, run_ccfs
from tests.support.require import missing
from tests.support.shell import Shared, shared

IMAGE = records.ccache(["host/one", "host/two"])
OTHER = records.ccache(["host/other"])
Done = subprocess.CompletedProcess[str]

__all__ = ["shared"]


@dataclass(frozen=True, slots=True)
class Empty:
    """A mount with nothing in it.  `seen`: how many events there were before."""

    path: Path
    seen: int


@pytest.fixture
def mount(shared: Shared) -> Empty:
    path = shared.empty()
    return Empty(path, len((path / "events").read_text().splitlines()))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ccfs-import-", dir=TMPFS) as directory:
        yield Path(directory)


def leave(path: Path, data: bytes = IMAGE) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def take(mount: Empty, *arguments: str | Path, environment: dict[str, str] | None = None) -> Done:
    """Run `ccfs import`; without KRB5CCNAME, unless it is given."""
    kept = {name: value for name, value in os.environ.items() if name != "KRB5CCNAME"}
    options = {"env": {**kept, **(environment or {})}}
    return run_ccfs("import", "-m", mount.path, *arguments, **options)


def done(result: Done) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


def content(mount: Empty, name: str = "tkt") -> bytes:
    return (mount.path / "caches" / name / "ccache").read_bytes()


def names(mount: Empty) -> set[str]:
    return {path.name for path in (mount.path / "caches").iterdir()}


def events(mount: Empty) -> list[list[str]]:
    """What has happened: the word and the ccache."""
    lines = (mount.path / "events").read_text().splitlines()[mount.seen :]
    return [line.split("\t")[2:4] for line in lines]


# Files


@pytest.mark.parametrize("form", ["FILE:{}", "{}", "environment", "relative"])
def test_import_moves_file_into_default(mount: Empty, place: Path, form: str) -> None:
    """In one step, and it is gone where it was."""
    source = leave(place / "krb5cc")
    if form == "environment":
        result = take(mount, environment={"KRB5CCNAME": f"FILE:{source}"})
    elif form == "relative":
        result = take(mount, os.path.relpath(source))
    else:
        result = take(mount, form.format(source))
    assert done(result) == (Exit.OK, "tkt\n", "")
    assert content(mount) == IMAGE
    assert list(place.iterdir()) == []
    assert names(mount) == {"tkt"}
    assert events(mount) == [["replaced", "tkt"]]


def test_import_without_residual_asks_libkrb5(mount: Empty, place: Path) -> None:
    source = leave(place / "krb5cc")
    (place / "krb5.conf").write_text(f"[libdefaults]\ndefault_ccache_name = FILE:{source}\n")
    result = take(mount, environment={"KRB5_CONFIG": str(place / "krb5.conf")})
    assert done(result) == (Exit.OK, "tkt\n", "")
    assert not source.exists()


def test_imported_kinit_ccache_works(mount: Empty, kdc: Kdc, place: Path) -> None:
    """Its tickets and its configuration are all there."""
    source = f"FILE:{place}/krb5cc"
    kerberos(kdc, source, "kinit", "-k", "-t", str(kdc.keytab), "alice")
    kerberos(kdc, source, "kvno", "host/localhost")
    before = (place / "krb5cc").read_bytes()
    assert take(mount, source).returncode == Exit.OK
    assert content(mount) == before
    ours = f"FILE:{mount.path}/default/ccache"
    assert kdc.principal("alice") in kerberos(kdc, ours, "klist", "-C")
    kerberos(kdc, ours, "kvno", "HTTP/localhost")


def kerberos(kdc: Kdc, ccname: str, *command: str) -> str:
    """What a program of MIT's prints."""
    ran = subprocess.run(
        command,
        env=kdc.environment(ccname),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_import_keep_leaves_source(mount: Empty, place: Path) -> None:
    source = leave(place / "krb5cc")
    assert done(take(mount, "--keep", source)) == (Exit.OK, "tkt\n", "")
    assert source.read_bytes() == content(mount) == IMAGE


def test_import_into_named_ccache(mount: Empty, place: Path) -> None:
    """It is made, and the default stays what it is."""
    leave(place / "krb5cc")
    (mount.path / "caches/tkt/ccache").write_bytes(OTHER)
    assert done(take(mount, "--into", "work", place / "krb5cc")) == (Exit.OK, "work\n", "")
    assert content(mount, "work") == IMAGE
    assert content(mount) == OTHER
    assert os.readlink(mount.path / "default") == "caches/tkt"


def test_import_of_only_ccache_makes_it_default(mount: Empty, place: Path) -> None:
    leave(place / "krb5cc")
    assert take(mount, "--into", "work", place / "krb5cc").returncode == Exit.OK
    assert os.readlink(mount.path / "default") == "caches/work"


def test_import_replaces_credentials_only_with_replace(mount: Empty, place: Path) -> None:
    source = leave(place / "krb5cc")
    (mount.path / "caches/tkt/ccache").write_bytes(OTHER)
    refused = take(mount, source)
    assert done(refused) == (
        Exit.EXISTS,
        "",
        'ccfs: error: ccache "tkt" has credentials\n'
        "ccfs: hint: add '--replace', or name another with '--into'\n",
    )
    assert (content(mount), source.read_bytes()) == (OTHER, IMAGE)
    assert done(take(mount, "--replace", source)) == (Exit.OK, "tkt\n", "")
    assert content(mount) == IMAGE
    assert not source.exists()


def test_import_replaces_ccache_without_credentials(mount: Empty, place: Path) -> None:
    leave(place / "krb5cc")
    (mount.path / "caches/tkt/principal").write_text("bob@EXAMPLE.COM")
    assert take(mount, place / "krb5cc").returncode == Exit.OK
    assert content(mount) == IMAGE


def too_large(path: Path) -> None:
    leave(path)
    os.truncate(path, (8 << 20) + 1)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda p: None, "no such file or directory"),
    "no ccache": (lambda p: leave(p, b"something else"), "it is no ccache"),
    "empty": (lambda p: leave(p, b""), "it is no ccache"),
    "cut short": (lambda p: leave(p, IMAGE[:-1]), "it is no ccache"),
    "too large": (too_large, "it is larger than a ccache may be"),
    "a link": (lambda p: p.symlink_to(leave(p.with_name("real"))), "it is a symbolic link"),
    "a FIFO": (os.mkfifo, "it is not a regular file"),
    "open to all": (lambda p: leave(p).chmod(0o644), "it is open to others"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_import_refuses_invalid_source(mount: Empty, place: Path, kind: str) -> None:
    """Nothing is imported, not even a directory made; the source is left as it is."""
    make, why = REFUSED[kind]
    make(place / "krb5cc")
    before = [(p.name, p.lstat().st_mtime_ns) for p in sorted(place.iterdir())]
    result = take(mount, "--into", "work", place / "krb5cc")
    assert result.returncode == Exit.BAD_SOURCE
    assert result.stdout == ""
    assert result.stderr.splitlines()[0].endswith(why)
    assert "Traceback" not in result.stderr
    assert [(p.name, p.lstat().st_mtime_ns) for p in sorted(place.iterdir())] == before
    assert names(mount) == {"tkt"}
    assert list((mount.path / "caches/tkt").glob(".*")) == []


@pytest.mark.parametrize(
    ("name", "status"),
    [("tkt.x", Exit.BAD_SOURCE), ("n" * 256, Exit.BAD_SOURCE), ("a/b", Exit.NO_CCACHE)],
)
def test_import_refuses_invalid_ccache_names(
    mount: Empty, place: Path, name: str, status: Exit
) -> None:
    source = leave(place / "krb5cc")
    result = take(mount, "--into", name, source)
    assert result.returncode == status
    assert result.stderr.startswith("ccfs: error: cannot ")
    assert source.read_bytes() == IMAGE


@pytest.mark.parametrize("residual", ["BLA:x", "MEMORY:x", "API:", "file:/x"])
def test_import_refuses_unknown_ccache_types(mount: Empty, residual: str) -> None:
    result = take(mount, residual)
    assert result.returncode == Exit.BAD_SOURCE
    assert "unknown type" in result.stderr


def test_import_beyond_limits_is_refused(make_mount: MakeMount, place: Path) -> None:
    mount = Empty(make_mount("--max-total-size", "1K").path, 0)
    source = leave(place / "krb5cc")
    result = take(mount, source)
    assert result.returncode == Exit.BAD_SOURCE
    assert "there is no room for it in the mount" in result.stderr
    assert source.read_bytes() == IMAGE
    assert names(mount) == {"tkt"}


def test_import_without_mount_is_an_error(make_mount: MakeMount, place: Path) -> None:
    source = leave(place / "krb5cc")
    result = run_ccfs("import", "-m", place, source)
    assert result.returncode == Exit.NOT_MOUNTED
    dead = make_mount()
    dead.process.kill()
    dead.process.wait(20)
    assert take(Empty(dead.path, 0), source).returncode == Exit.DEAD_MOUNT
    assert source.read_bytes() == IMAGE


@pytest.mark.parametrize(
    "residual",
    [
        "FILE:{}/default/ccache",
        "{}/caches/tkt/ccache",
        "DIR:{}/dir",
        "DIR::{}/dir/tkt",
        "FILE:{}/dir/tkt",
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_import_refuses_source_in_the_mount(mount: Empty, residual: str, given: bool) -> None:
    """KRB5CCNAME points there as a rule; an import would end in nothing."""
    (mount.path / "caches/tkt/ccache").write_bytes(IMAGE)
    named = residual.format(mount.path)
    again = ["--replace", "--into", "work"]
    environment = {} if given else {"KRB5CCNAME": named}
    result = take(mount, *again, *([named] if given else []), environment=environment)
    assert result.returncode == Exit.BAD_SOURCE
    assert "already" in result.stderr
    assert "ccfs: hint: name what is to be imported" in result.stderr
    assert content(mount) == IMAGE
    assert names(mount) == {"tkt"}


def test_import_reports_source_it_cannot_remove(
    mount: Empty,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is imported, and a notice says what stays."""
    source = leave(place / "krb5cc")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "unlink", refused)
    status = main(["import", "-m", str(mount.path), str(source)])
    told = capsys.readouterr()
    assert (status, told.out) == (Exit.OK, "tkt\n")
    assert told.err == (
        f"ccfs: notice: imported, but cannot remove {source}: operation not permitted\n"
    )
    assert source.read_bytes() == content(mount) == IMAGE


# What libkrb5 reads


class Collection:
    """Ccaches as libkrb5 makes them, each with a credential for a host of its user's name."""

    def __init__(self) -> None:
        self.context = krb5.init_context()

    def add(self, residual: str, user: str) -> None:
        made = krb5.cc_resolve(self.context, residual.encode())
        principal = krb5.parse_name_flags(self.context, f"{user}@KRBTEST.COM".encode())
        krb5.cc_initialize(self.context, made, principal)
        krb5.cc_set_config(self.context, made, None, b"pa_type", b"2")
        with tempfile.NamedTemporaryFile(dir=TMPFS) as file:
            file.write(records.ccache([f"host/{user}"]))
            file.flush()
            for one in krb5.cc_resolve(self.context, f"FILE:{file.name}".encode()):
                krb5.cc_store_cred(self.context, made, one)

    def destroy(self, residual: str) -> None:
        krb5.cc_destroy(self.context, krb5.cc_resolve(self.context, residual.encode()))

    def has(self, residual: str) -> bool:
        try:
            krb5.cc_get_principal(self.context, krb5.cc_resolve(self.context, residual.encode()))
        except krb5.Krb5Error:
            return False
        return True


def holds(mount: Empty, name: str, user: str) -> bool:
    """Whether a ccache has what `Collection.add` made."""
    directory = mount.path / "caches" / name
    return (
        (directory / "principal").read_text() == f"{user}@KRBTEST.COM\n"
        and os.listdir(directory / "credentials") == [f"host%2F{user}@KRBTEST.COM"]
        and (directory / "config/pa_type").read_bytes() == b"2"
        and records.record(f"host/{user}") in (directory / "ccache").read_bytes()
    )


@pytest.fixture
def directory(place: Path) -> Path:
    """A DIR collection of three, the second of them primary."""
    made = place / "cc"
    made.mkdir(0o700)
    collection = Collection()
    for name, user in {"tktAbC": "alice", "tkt.work": "bob", "tkt%x": "carol"}.items():
        collection.add(f"DIR::{made}/{name}", user)
    (made / "primary").write_text("tkt.work\n")
    return made


def test_import_moves_all_ccaches_of_dir(mount: Empty, directory: Path) -> None:
    """Each under its own name; the primary one is the default, for there was none."""
    result = take(mount, f"DIR:{directory}")
    assert (result.returncode, result.stderr) == (Exit.OK, "")
    assert {*result.stdout.split()} == {"tktAbC", "work", "tkt%25x"}
    assert holds(mount, "tktAbC", "alice")
    assert holds(mount, "work", "bob")
    assert holds(mount, "tkt%25x", "carol")
    assert os.readlink(mount.path / "default") == "caches/work"
    assert os.listdir(directory) == ["primary"]


def test_import_of_dir_keeps_default_in_use(mount: Empty, directory: Path) -> None:
    (mount.path / "caches/tkt/ccache").write_bytes(OTHER)
    assert take(mount, "--keep", f"DIR:{directory}").returncode == Exit.OK
    assert os.readlink(mount.path / "default") == "caches/tkt"
    assert len(os.listdir(directory)) == 4


def test_import_of_dir_is_all_or_nothing(mount: Empty, directory: Path) -> None:
    (mount.path / "caches/work").mkdir()
    (mount.path / "caches/work/ccache").write_bytes(OTHER)
    result = take(mount, f"DIR:{directory}")
    assert result.returncode == Exit.EXISTS
    assert 'ccache "work" has credentials' in result.stderr
    assert names(mount) == {"tkt", "work"}
    assert len(os.listdir(directory)) == 4
    assert take(mount, "--replace", f"DIR:{directory}").returncode == Exit.OK
    assert holds(mount, "work", "bob")


def test_import_of_dir_refuses_one_name(mount: Empty, directory: Path) -> None:
    result = take(mount, "--into", "work", f"DIR:{directory}")
    assert result.returncode == Exit.USAGE
    assert "there are 3 ccaches to import, and one name" in result.stderr
    assert names(mount) == {"tkt"}


def test_import_of_one_ccache_of_dir(mount: Empty, directory: Path) -> None:
    assert done(take(mount, f"DIR::{directory}/tktAbC")) == (Exit.OK, "tkt\n", "")
    assert holds(mount, "tkt", "alice")
    assert len(os.listdir(directory)) == 3


def test_import_keeps_kdc_offset(mount: Empty, place: Path) -> None:
    """libkrb5 keeps it in the header of a file (tag 1: seconds, microseconds)."""
    offset = b"\x00\x0c\x00\x01\x00\x08" + (77).to_bytes(4) + bytes(4)
    leave(place / "tkt", IMAGE[:2] + offset + IMAGE[4:])
    assert take(mount, f"DIR::{place}/tkt").returncode == Exit.OK
    assert (mount.path / "default/kdc_offset").read_text() == "77\n"


@pytest.mark.parametrize("where", ["empty", "nowhere"])
def test_import_of_empty_dir_is_refused(mount: Empty, place: Path, where: str) -> None:
    (place / "empty").mkdir(0o700)
    result = take(mount, f"DIR:{place}/{where}")
    assert result.returncode == Exit.BAD_SOURCE
    assert "it has no ccache" in result.stderr


def test_import_of_dir_with_foreign_file_is_refused(mount: Empty, directory: Path) -> None:
    """Nothing is half done."""
    leave(directory / "tktbad", b"something else")
    result = take(mount, f"DIR:{directory}")
    assert result.returncode == Exit.BAD_SOURCE
    assert "Traceback" not in result.stderr
    assert names(mount) == {"tkt"}
    assert len(os.listdir(directory)) == 5


def test_import_keeps_source_changed_meanwhile(directory: Path) -> None:
    """A program may have stored a ticket in the source after it was read."""
    with open_sources(f"DIR:{directory}", 1 << 20) as found:
        changed, gone, fine = sorted(found, key=lambda left: left.name)
        assert (changed.name, gone.name, fine.name) == ("tkt%25x", "tktAbC", "work")
        Collection().add(f"DIR::{directory}/tkt%x", "alice")
        (directory / "tktAbC").unlink()
        fine.remove()
        with pytest.raises(SourceError, match=r"has changed .*and stays"):
            changed.remove()
        with pytest.raises(SourceError, match="cannot remove"):
            gone.remove()
    assert sorted(os.listdir(directory)) == ["primary", "tkt%x"]


def test_import_source_defaults_to_krb5ccname_then_libkrb5(monkeypatch: pytest.MonkeyPatch) -> None:
    """KRB5CCNAME, else libkrb5, else what libkrb5 has built in."""
    assert residuals.default({"KRB5CCNAME": "KCM:"}, 7) == "KCM:"
    monkeypatch.setitem(sys.modules, "krb5", None)
    assert residuals.default({"KRB5CCNAME": ""}, 7) == "FILE:/tmp/krb5cc_7"


def test_import_moves_keyring_ccaches(mount: Empty) -> None:
    """Its two ccaches move; nothing is left of them."""
    name = f"KEYRING:user:ccfs-test-{os.getpid()}"
    one, two = f"{name}:one", f"{name}:two"
    collection = Collection()
    try:
        collection.add(one, "alice")
        collection.add(two, "bob")
    except krb5.Krb5Error as error:
        missing("keyrings", "run the tests where keyctl(2) is allowed", str(error))
    try:
        result = take(mount, name)
        assert (result.returncode, result.stderr) == (Exit.OK, "")
        assert {*result.stdout.split()} == {"one", "two"}
        assert holds(mount, "one", "alice")
        assert holds(mount, "two", "bob")
        assert not collection.has(one)
        assert not collection.has(two)
    finally:
        for residual in (one, two):
            if collection.has(residual):
                collection.destroy(residual)


def test_import_moves_ccaches_of_another_kcm(
    mount: Empty, make_mount: MakeMount, place: Path
) -> None:
    """That of another mount; what one has of its own is refused, and stays."""
    other = Empty(make_mount("--kcm-socket", str(place / "kcm")).path, 0)
    (place / "krb5.conf").write_text(f"[libdefaults]\nkcm_socket = {place}/kcm\n")
    environment = {"KRB5_CONFIG": str(place / "krb5.conf")}
    for name, data in {"tkt": IMAGE, "work": OTHER}.items():
        (other.path / "caches" / name).mkdir(exist_ok=True)
        (other.path / "caches" / name / "ccache").write_bytes(data)
    for residual in ("KCM:", f"KCM:{os.getuid()}:work"):
        result = take(other, "--replace", residual, environment=environment)
        assert result.returncode == Exit.BAD_SOURCE
        assert "already" in result.stderr
        assert names(other) == {"tkt", "work"}
        assert content(other) == IMAGE
    result = take(mount, "KCM:", environment=environment)
    assert (result.returncode, result.stderr) == (Exit.OK, "")
    assert {*result.stdout.split()} == {"tkt", "work"}
    for server, name in {"host/one": "tkt", "host/two": "tkt", "host/other": "work"}.items():
        assert records.record(server) in content(mount, name)
    assert names(other) == {"tkt"}
    assert not (other.path / "caches/tkt/ccache").exists()
    result = take(mount, "KCM:", environment=environment)
    assert "it has no ccache" in result.stderr


def test_import_without_python_krb5_says_how_to_get_it(
    mount: Empty, place: Path, directory: Path
) -> None:
    """Files need nothing; what needs python-krb5 says how to get it."""
    (place / "krb5.py").write_text("raise ImportError\n")
    environment = {"PYTHONPATH": str(place)}
    source = leave(place / "krb5cc")
    assert take(mount, source, environment=environment).returncode == Exit.OK
    result = take(mount, "--replace", f"DIR:{directory}", environment=environment)
    assert (result.returncode, result.stderr) == (Exit.OK, "")
    assert os.listdir(directory) == ["primary"]
    result = take(mount, "KCM:", environment=environment)
    assert done(result) == (
        Exit.BAD_SOURCE,
        "",
        "ccfs: error: cannot import from KCM: the Python module krb5 is missing\n"
        "ccfs: hint: install libkrb5-dev, then 'pip install krb5' or 'make install'\n",
    )


# Out again


def test_export_writes_private_file(mount: Empty, place: Path) -> None:
    (mount.path / "caches/tkt/ccache").write_bytes(IMAGE)
    target = place / "out"
    for form in (target, f"FILE:{target}"):
        result = run_ccfs("export", "-m", mount.path, "tkt", form)
        assert done(result) == (Exit.OK, "", "")
        assert target.read_bytes() == IMAGE
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        target.unlink()


def test_export_replaces_only_with_replace(mount: Empty, place: Path) -> None:
    (mount.path / "caches/tkt/ccache").write_bytes(IMAGE)
    target = leave(place / "out", b"something else")
    target.chmod(0o644)
    kept = target.open("rb")
    result = run_ccfs("export", "-m", mount.path, "tkt", target)
    assert done(result) == (
        Exit.EXISTS,
        "",
        f"ccfs: error: {target} exists\nccfs: hint: add '--replace', or name another file\n",
    )
    assert target.read_bytes() == b"something else"
    result = run_ccfs("export", "--replace", "-m", mount.path, "tkt", target)
    assert done(result) == (Exit.OK, "", "")
    assert target.read_bytes() == IMAGE
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with kept:
        assert kept.read() == b"something else"
    assert os.listdir(place) == ["out"]


@pytest.mark.parametrize("name", ["nothing", "tkt", "a/b"])
def test_export_of_missing_ccache_is_an_error(mount: Empty, place: Path, name: str) -> None:
    """One without a file is none."""
    result = run_ccfs("export", "-m", mount.path, name, place / "out")
    assert result.returncode == Exit.NO_CCACHE
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--replace"]])
@pytest.mark.parametrize("where", ["nowhere/out", "directory", "link"])
def test_export_refuses_unwritable_target(
    mount: Empty, place: Path, where: str, options: list[str]
) -> None:
    """No directory, one in the way, a link that leads elsewhere: replaced, but not followed."""
    (mount.path / "caches/tkt/ccache").write_bytes(IMAGE)
    (place / "directory").mkdir()
    (place / "link").symlink_to("aim")
    result = run_ccfs("export", *options, "-m", mount.path, "tkt", place / where)
    assert not (place / "aim").exists()
    if where == "link" and options:
        assert result.returncode == Exit.OK
        assert not (place / "link").is_symlink()
    else:
        assert result.returncode in (Exit.UNEXPECTED, Exit.EXISTS)
        assert result.stderr.startswith("ccfs: error: ")
        assert sorted(os.listdir(place)) == ["directory", "link"]


def test_export_to_disk_is_noticed(mount: Empty, tmp_path: Path) -> None:
    if location.in_memory(str(tmp_path)):
        missing("a disk", "set TMPDIR to a directory on one", f"{tmp_path} is in memory")
    (mount.path / "caches/tkt/ccache").write_bytes(IMAGE)
    target = tmp_path / "out"
    result = run_ccfs("export", "-m", mount.path, "tkt", target)
    assert done(result) == (
        Exit.OK,
        "",
        f"ccfs: notice: {target} is on a disk, where its secrets stay\n",
    )
    target.unlink()
