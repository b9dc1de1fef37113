# SPDX-License-Identifier: MIT
"""The command line of ccfs: its commands and their options.

Knows names and types of options; never what a command does with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import abspath

from ccfs import __version__
from ccfs.commandline.parser import ArgumentParser, count, size


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `ccfs`: its line of help, its module in `ccfs.cli`, and its options."""

    help: str
    module: str
    add_options: Callable[[argparse.ArgumentParser], object]


def _path(text: str) -> str:
    """Parse a path, and make it absolute: the daemon has another working directory."""
    if not text:
        raise argparse.ArgumentTypeError("not a path: ''")
    return abspath(text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line `argv` (default: sys.argv); UsageError."""
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="ccfs", description="Keep Kerberos credentials in a file system.")
    parser.add_argument("--version", action="version", version=f"ccfs {__version__}")
    commands = parser.add_subparsers(
        prog=parser.prog, dest="command", metavar="COMMAND", required=True
    )
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        subparser.set_defaults(module=command.module)
        subparser.add_argument("--debug", action="store_true", help="show tracebacks of failures")
        command.add_options(subparser)
    return parser


def _mountpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mountpoint", nargs="?", metavar="MOUNTPOINT", help="default: $XDG_RUNTIME_DIR/ccfs"
    )


def _mountpoint_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--mountpoint", metavar="MOUNTPOINT", help="default: $XDG_RUNTIME_DIR/ccfs"
    )


def _name_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint_option(parser)
    parser.add_argument("name", metavar="NAME", help="a ccache, as 'ccfs list' shows it")


def _wait_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint_option(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="default: any ccache")


def _lock_options(parser: argparse.ArgumentParser) -> None:
    _name_options(parser)
    parser.add_argument("--shared", action="store_true", help="take a shared lock")
    parser.add_argument("--nonblock", action="store_true", help="fail rather than wait")
    parser.add_argument("argv", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run")


def _mount_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint(parser)
    flag = parser.add_argument
    flag("--foreground", action="store_true", help="serve in this process, log to stderr")
    flag("--allow-root", action="store_true", help="let root use the mount, too")
    flag("--allow-other", action="store_true", help="have the kernel pass other users' requests on")
    flag("--replace", action="store_true", help="replace a dead mount at the same path")
    flag("--journal", metavar="PATH", help="file of the journal, for the case of a crash")
    flag("--no-journal", action="store_true", help="keep no journal: a crash loses everything")
    flag("--journal-on-disk", action="store_true", help="allow a journal on a disk")
    flag("--kcm-socket", type=_path, metavar="PATH", help="serve KCM: ccaches there, too")
    flag("--max-ccaches", type=count, metavar="N", help="most ccaches at a time")
    flag("--max-ccache-size", type=size, metavar="SIZE", help="largest ccache, such as 8M")
    flag("--max-total-size", type=size, metavar="SIZE", help="all ccaches together")
    flag("--max-credentials", type=count, metavar="N", help="credentials in all ccaches together")
    flag("--max-open", type=count, metavar="N", help="most open files at a time")
    flag("--max-events", type=count, metavar="N", help="events in the file events")
    flag("--mount-anew", action="store_true", help="after a crash mount anew, as before Linux 6.9")


def _json_option(parser: argparse.ArgumentParser) -> None:
    _mountpoint(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _import_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint_option(parser)
    flag = parser.add_argument
    flag("residual", metavar="RESIDUAL", nargs="?", help="default: $KRB5CCNAME, or libkrb5's own")
    flag("--into", metavar="NAME", help="default: the default ccache")
    flag("--keep", action="store_true", help="leave the source where it is")
    flag("--replace", action="store_true", help="replace a ccache that has credentials")


def _copy_options(parser: argparse.ArgumentParser) -> None:
    _name_options(parser)
    parser.add_argument("copy", metavar="COPY", help="the name of the copy")
    parser.add_argument("--replace", action="store_true", help="replace one that has credentials")


def _export_options(parser: argparse.ArgumentParser) -> None:
    _name_options(parser)
    parser.add_argument("file", metavar="FILE", help="a new file, or - for stdout")
    parser.add_argument("--replace", action="store_true", help="replace a file that is there")


def _watch_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint(parser)
    parser.add_argument(
        "-n", "--lines", type=count, default=10, metavar="N", help="past events shown first (10)"
    )


COMMANDS = {
    "mount": Command("mount a ccfs and serve it in the background", "mount", _mount_options),
    "unmount": Command("unmount a ccfs and end its daemon", "unmount", _mountpoint),
    "restart": Command("serve a mount by the code that is installed now", "restart", _mountpoint),
    "status": Command("show the state of a mount", "status", _json_option),
    "list": Command("list the ccaches of the collection", "list_", _json_option),
    "env": Command("print the export line for KRB5CCNAME", "env", _mountpoint),
    "switch": Command("make a ccache the default", "switch", _name_options),
    "destroy": Command("destroy a ccache", "destroy", _name_options),
    "copy": Command("make a copy of a ccache", "copy", _copy_options),
    "import": Command("move ccaches into the mount", "import_.command", _import_options),
    "export": Command("write a ccache out to a file", "export", _export_options),
    "wait": Command("return at the next change", "wait", _wait_options),
    "lock": Command("run a command under a ccache's lock", "lock", _lock_options),
    "watch": Command("follow the events of a mount", "watch", _watch_options),
    "doctor": Command("check the machine and the mount", "doctor.command", _json_option),
}
