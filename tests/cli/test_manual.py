# SPDX-License-Identifier: MIT
"""The manual page and docs/user/commands.md have what the command has."""

import argparse
import re
import subprocess
import sys
import tomllib

import pytest

from ccfs import __version__
from ccfs.cli import arguments
from ccfs.errors import Exit
from tests.support.paths import PROJECT

MANUAL = (PROJECT / "man/ccfs.1").read_text()
COMMANDS = (PROJECT / "docs/user/commands.md").read_text()


def options(command: str) -> set[str]:
    """The long options of a command."""
    parser = argparse.ArgumentParser()
    arguments.COMMANDS[command].add_options(parser)
    names = {name for action in parser._actions for name in action.option_strings}
    return {name for name in names if name.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_manual_has_every_command_and_option(command: str) -> None:
    text = MANUAL.replace("\\-", "-")
    assert re.search(rf"^\.B ccfs {command}$", text, re.M)
    assert re.search(rf"^\.TP\n\.B {command}$", text, re.M)
    assert {name for name in options(command) if name not in text} == set()
    assert f"`ccfs {command}`" in COMMANDS


def test_manual_has_every_exit_status() -> None:
    section = MANUAL.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    numbers = re.findall(r"^\.B (\d+)$", section, re.M)
    assert [*map(int, numbers)] == [*map(int, Exit)]


def test_documents_have_every_exit_status() -> None:
    section = COMMANDS.partition("## Exit statuses")[2].partition("\n## ")[0]
    numbers = re.findall(r"^\| (\d+) \|", section, re.M)
    assert [*map(int, numbers)] == [*map(int, Exit)]


def test_version_is_written_in_one_place() -> None:
    """`make install` writes it into the footers of the man pages."""
    for page in (PROJECT / "man").iterdir():
        assert re.match(r'\.TH [\w.]+ [18] [\d-]+ "ccfs" ".*"\n', page.read_text())
    assert "version" not in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_version_without_installation() -> None:
    command = [sys.executable, "-m", "ccfs", "--version"]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"ccfs {__version__}\n"
