# SPDX-License-Identifier: MIT
"""The command line, and what a user is told when it can't be followed."""

import argparse

import pytest

from ccfs import __version__
from ccfs.cli import arguments, mountpoint_argument
from ccfs.cli.main import main
from ccfs.errors import Exit, UsageError


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("1", 1),
        ("8388608", 8 << 20),
        ("8M", 8 << 20),
        ("8MiB", 8 << 20),
        ("8mb", 8 << 20),
        ("64K", 64 << 10),
        ("2g", 2 << 30),
        ("10B", 10),
    ],
)
def test_size_is_parsed_with_units(text: str, bytes_: int) -> None:
    assert arguments.size(text) == bytes_  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "0", "1.5M", "8T", "8MM", "8M8", "٣", "0x10", "1_0"]
)
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.size(text)  # type: ignore[attr-defined]


def test_limit_arguments_become_options() -> None:
    line = ["mount", "--max-ccaches", "7", "--max-ccache-size=1M", "--max-total-size", "2M", "/m"]
    given = arguments.parse(line)
    assert (given.max_ccaches, given.max_ccache_size, given.max_total_size) == (7, 1 << 20, 2 << 20)
    assert given.mountpoint == "/m"
    assert arguments.parse(["mount"]).max_ccaches is None


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_commands_have_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: ccfs {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["moutn"],
        ["mount", "--replcae"],
        ["mount", "a", "b"],
        ["mount", "--max-ccaches", "none"],
        ["mount", "--kcm-socket", ""],
        ["list", "--lines", "3"],
    ],
)
def test_usage_error_is_one_line_with_hint(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == Exit.USAGE
    said = capsys.readouterr()
    error, hint = said.err.splitlines()
    assert said.out == ""
    assert error.startswith("ccfs: error: ")
    assert hint.startswith("ccfs: hint: see 'ccfs")


def test_version_option_prints_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"ccfs {__version__}\n"


def test_default_mountpoint_is_in_runtime_directory() -> None:
    assert mountpoint_argument.default({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == "/run/user/7/ccfs"


def test_default_mountpoint_needs_runtime_directory() -> None:
    with pytest.raises(UsageError) as told:
        mountpoint_argument.default({"XDG_RUNTIME_DIR": ""}, 7)
    assert "/run/user/7" in told.value.hint


def test_export_line_is_quoted() -> None:
    assert mountpoint_argument.export_line("/run/user/7/ccfs") == (
        "export KRB5CCNAME=FILE:/run/user/7/ccfs/default/ccache"
    )
    assert mountpoint_argument.export_line("/a b'c") == (
        """export KRB5CCNAME='FILE:/a b'"'"'c/default/ccache'"""
    )


def test_exit_statuses_are_fixed() -> None:
    """Scripts rely on these numbers: they are in the manual, and none is ever changed."""
    assert {status.name: int(status) for status in Exit} == {
        "OK": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "NOT_MOUNTED": 3,
        "ALREADY_MOUNTED": 4,
        "NO_FUSE": 5,
        "DEAD_MOUNT": 6,
        "PERMISSION": 7,
        "BAD_MOUNTPOINT": 8,
        "NO_ANSWER": 9,
        "JOURNAL": 10,
        "FINDINGS": 11,
        "NO_CCACHE": 12,
        "LOCKED": 13,
        "BAD_SOURCE": 14,
        "EXISTS": 15,
        "KCM_SOCKET": 16,
        "NOT_RESTARTED": 17,
        "INTERRUPTED": 130,
    }
