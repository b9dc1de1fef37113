# SPDX-License-Identifier: MIT
"""What the command prints, from text."""

import pytest

from ccfs.cli import info, mount_steps, output
from ccfs.commandline import messages
from ccfs.errors import Exit, MountError, UserError

INFO = b"""id: 12
name: a%2Fb
principal: alice@EXAMPLE.COM
initialised: yes
default: no
version: 4
credentials: 3
expires:\x20
new_key: a: b
"""


def test_info_lines_become_values() -> None:
    assert info.of_ccache(INFO) == {
        "id": "12",
        "name": "a%2Fb",
        "principal": "alice@EXAMPLE.COM",
        "initialised": True,
        "default": False,
        "version": 4,
        "credentials": 3,
        "expires": None,
        "new_key": "a: b",
    }


def test_non_numeric_info_stays_text() -> None:
    assert info.of_mount(b"pid: 12\nbytes: many\nversion: 1\n") == {
        "pid": 12,
        "bytes": "many",
        "version": "1",
    }


def test_table_aligns_columns_and_escapes_controls() -> None:
    rows = [["", "NAME", "X"], ["*", "a\x1b[2Jb", ""], ["", "tkt", "\u202e1"]]
    assert output.table(rows) == "   NAME       X\n*  a\\x1b[2Jb\n   tkt        \\u202e1\n"


def test_error_is_printed_with_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.fail(UserError("it is\nbroken", "mend it")) == Exit.UNEXPECTED
    assert capsys.readouterr().err == "ccfs: error: it is\\x0abroken\nccfs: hint: mend it\n"


def test_crash_is_printed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.crash(ZeroDivisionError("by zero"), debug=False) == Exit.UNEXPECTED
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "ccfs: error: unexpected failure: ZeroDivisionError at "
    assert "--debug" in hint


def test_missing_fuse_device_is_reported() -> None:
    with pytest.raises(MountError) as told:
        mount_steps.check_fuse("/nowhere/fuse", "/bin")
    assert told.value.reason == "there is no /nowhere/fuse"
    assert "modprobe fuse" in told.value.hint


@pytest.mark.parametrize("device", ["/dev/null", "/etc/passwd"])
def test_non_device_at_dev_fuse_is_reported(device: str) -> None:
    """libfuse would say no more than "Invalid argument"."""
    with pytest.raises(MountError) as told:
        mount_steps.check_fuse(device, "/bin")
    assert told.value.reason == f"{device} is not the FUSE device"
    assert "modprobe fuse" in told.value.hint
