# SPDX-License-Identifier: MIT
"""Every command with each of descriptors 0 to 2 closed or full, and in narrow encodings."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.errors import Exit
from tests.support.dated_ccaches import FUTURE, ccache
from tests.support.mounting import (
    Mounted,
    Mounts,
    ccfs_command,
    is_mounted,
    mounts,
    run_ccfs,
    tear_down,
)
from tests.support.shell import wait_until

SECONDS = 30
CLOSED = {0: "<&-", 1: ">&-", 2: "2>&-"}
FULL = {1: ">/dev/full", 2: "2>/dev/full"}
REDIRECTIONS = [*CLOSED.values(), *FULL.values(), "<&- >&- 2>&-"]
PRINTING = ("status", "list", "env", "doctor", "--help", "--version")
FAILING = ("status /", "nonsense", "switch -m {} none", "export -m {} none /dev/null")
TALK = ("Traceback", "AttributeError", "Exception ignored", "unexpected")


@pytest.fixture(scope="module")
def full() -> Iterator[Mounted]:
    with mounts() as maker:
        yield filled(maker)


def filled(maker: Mounts) -> Mounted:
    """A mount with a ccache of a principal in another script."""
    mounted = maker.make()
    (mounted.path / "default/ccache").write_bytes(ccache("\u0430\u043d\u043d\u0430", FUTURE))
    return mounted


def sh(
    arguments: str, redirection: str, command: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with a redirection of its own; what it prints elsewhere is kept."""
    line = f"exec {command or ' '.join(ccfs_command())} {arguments} {redirection}"
    environment = {**os.environ, **more}
    return subprocess.run(
        ["timeout", "-s", "KILL", str(SECONDS), "sh", "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=2 * SECONDS,
        check=False,
        env=environment,
    )


def follows(watch: "subprocess.Popen[str]") -> bool:
    """Whether `ccfs watch` (or the child that runs it) has the events open, or has ended."""
    if watch.poll() is not None:
        return True
    children = Path(f"/proc/{watch.pid}/task/{watch.pid}/children").read_text().split()
    descriptors = [fd for pid in [watch.pid, *children] for fd in Path(f"/proc/{pid}/fd").iterdir()]
    with contextlib.suppress(OSError):
        return any(os.readlink(fd).endswith("/events") for fd in descriptors)
    return False


def watch_until_unmounted(
    mounted: Mounted, command: list[str], **environment: str
) -> tuple[int, str, str]:
    """Run `ccfs watch`, and end the mount once it follows; its exit status, output and errors."""
    watch = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        wait_until(lambda: follows(watch), "it never follows the events")
        os.kill(mounted.pid, signal.SIGTERM)
        output, errors = watch.communicate(timeout=SECONDS)
    finally:
        watch.kill()
        watch.communicate()
    return watch.returncode, output, errors


def wanted(command: str, redirection: str, plain: int) -> int:
    return Exit.UNEXPECTED if redirection == FULL[1] else plain


@pytest.mark.parametrize("redirection", REDIRECTIONS)
@pytest.mark.parametrize("command", PRINTING)
def test_printing_commands_report_unwritable_output(
    full: Mounted, command: str, redirection: str
) -> None:
    arguments = command if command.startswith("--") else f"{command} {full.path}"
    plain = sh(arguments, "").returncode
    done = sh(arguments, redirection)
    assert done.returncode == wanted(command, redirection, plain), done.stderr
    assert not [word for word in TALK if word in done.stderr + done.stdout]
    if redirection == FULL[1]:
        assert done.stderr.startswith("ccfs: error: cannot write the output: no space left")


@pytest.mark.parametrize("redirection", REDIRECTIONS)
@pytest.mark.parametrize("command", FAILING)
def test_failing_commands_keep_their_status(full: Mounted, command: str, redirection: str) -> None:
    arguments = command.format(full.path)
    plain = sh(arguments, "")
    done = sh(arguments, redirection)
    assert done.returncode == plain.returncode != 0
    assert done.stderr == ("" if "2>" in redirection else plain.stderr)


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_changing_commands_succeed_without_streams(full: Mounted, redirection: str) -> None:
    for line in ("switch -m {} tkt", "lock -m {} tkt -- true"):
        done = sh(line.format(full.path), redirection)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_mount_stays_when_export_line_cannot_be_printed(redirection: str, tmp_path: Path) -> None:
    """The mount stays where only the line could not be printed, and the message says what to do."""
    path = tmp_path / "m"
    try:
        done = sh(f"mount --no-journal {path}", redirection)
        assert done.returncode == wanted("mount", redirection, 0), done.stderr
        assert is_mounted(path)
        if redirection == FULL[1]:
            assert "cannot write the output" in done.stderr
            assert "'ccfs env'" in done.stderr
        else:
            assert done.stderr == ""
        assert run_ccfs("status", path).returncode == 0
        done = sh(f"unmount {path}", redirection)
        assert (done.returncode, done.stderr) == (0, "")
        assert not is_mounted(path)
    finally:
        tear_down(path)


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_watch_ends_at_unwritable_output(redirection: str) -> None:
    """It ends with the mount, or where its output can't be written; never in a line's middle."""
    with mounts() as maker:
        mounted = filled(maker)
        line = f"exec {' '.join(ccfs_command())} watch {mounted.path} {redirection}"
        command = ["timeout", "-s", "KILL", str(SECONDS), "sh", "-c", line]
        status, _, said = watch_until_unmounted(mounted, command)
    assert status == wanted("watch", redirection, 0)
    assert not [word for word in TALK if word in said]


@pytest.mark.parametrize("redirection", REDIRECTIONS)
@pytest.mark.parametrize("arguments", ["--version", "--nonsense", "--stop --runtime-directory /no"])
def test_ccfsd_reports_unwritable_output(redirection: str, arguments: str) -> None:
    command = f"{sys.executable} -m ccfs.ccfsd"
    plain = sh(arguments, "", command).returncode
    done = sh(arguments, redirection, command)
    assert done.returncode == (plain or wanted("ccfsd", redirection, plain))
    assert not [word for word in TALK if word in done.stderr + done.stdout]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "de_DE.ISO-8859-1"])
@pytest.mark.parametrize("encoding", ["", "ascii", "iso-8859-1", "utf-8"])
def test_output_is_printable_in_any_encoding(full: Mounted, locale: str, encoding: str) -> None:
    more = {"LC_ALL": locale, **({"PYTHONIOENCODING": encoding} if encoding else {})}
    for command in ("list", "status", "doctor", "env"):
        done = sh(f"{command} {full.path}", "", **more)
        assert done.returncode in (0, Exit.FINDINGS), done.stderr
        assert done.stderr == ""
        if command == "list":
            escaped = "\\u0430\\u043d\\u043d\\u0430"
            assert (escaped if "8" not in (encoding or "8")[-1] else "@EXAMPLE.COM") in done.stdout


def test_watch_is_printable_in_any_encoding() -> None:
    with mounts() as maker:
        mounted = filled(maker)
        command = [*ccfs_command(), "watch", str(mounted.path)]
        status, said, wrong = watch_until_unmounted(mounted, command, PYTHONIOENCODING="iso-8859-1")
    assert status == 0
    assert [line for line in wrong.splitlines() if "notice" not in line] == [], said


def test_export_line_has_bytes_of_path(tmp_path: Path) -> None:
    """The export line is the bytes of the path, in every encoding."""
    path = os.fsencode(tmp_path) + b"/\xff\xc3\xa9"
    name = os.fsdecode(path)
    try:
        for encoding in ("utf-8", "ascii"):
            environment = {**os.environ, "PYTHONIOENCODING": encoding}
            run = [*ccfs_command(), "mount", "--no-journal", name]
            done = subprocess.run(
                run, capture_output=True, check=False, timeout=SECONDS, env=environment
            )
            assert done.returncode == 0, done.stderr
            if encoding == "utf-8":
                assert path in done.stdout
            run_ccfs("unmount", name)
    finally:
        tear_down(Path(name))
