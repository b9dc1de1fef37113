"""The command line: which commands there are, what each takes.

Knows words and numbers as a user types them; never what is done with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import abspath
from typing import NoReturn

from ccfs import __version__
from ccfs.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Parser(argparse.ArgumentParser):
    """argparse with our voice."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see '{self.prog} --help'")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `ccfs`: the line of help, the module that runs it, the options it adds."""

    help: str
    module: str
    add_options: Callable[[argparse.ArgumentParser], object]


def size(text: str) -> int:
    """A size in bytes: a whole number, with K, M or G (also KiB, MiB, GiB) for powers of 1024."""
    plain = text.strip().upper().removesuffix("IB").removesuffix("B")
    number = plain.rstrip("KMG")
    unit = plain[len(number) :]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}, write 8M or 8388608")
    return _positive(int(number) * _UNITS[unit], text)


def count(text: str) -> int:
    """A whole number, one at least."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return _positive(int(text), text)


def _positive(number: int, text: str) -> int:
    if number < 1:
        raise argparse.ArgumentTypeError(f"too small: {text!r}")
    return number


def _path(text: str) -> str:
    """A path, absolute: the daemon has another working directory."""
    if not text:
        raise argparse.ArgumentTypeError("not a path: ''")
    return abspath(text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line as a namespace; UsageError when it can't be understood."""
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ccfs", description="Keep Kerberos credentials in a file system.")
    parser.add_argument("--version", action="version", version=f"ccfs {__version__}")
    commands = parser.add_subparsers(
        prog=parser.prog, dest="command", metavar="COMMAND", required=True
    )
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.help, description=command.help)
        added.set_defaults(module=command.module)
        added.add_argument("--debug", action="store_true", help="show where a failure came from")
        command.add_options(added)
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
    parser.add_argument("--shared", action="store_true", help="let others share the lock")
    parser.add_argument("--nonblock", action="store_true", help="fail rather than wait")
    parser.add_argument("argv", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run")


def _mount_options(parser: argparse.ArgumentParser) -> None:
    _mountpoint(parser)
    flag = parser.add_argument
    flag("--foreground", action="store_true", help="serve in this process, log to stderr")
    flag("--allow-root", action="store_true", help="let root in, too")
    flag("--allow-other", action="store_true", help="let the kernel pass other users' requests on")
    flag("--replace", action="store_true", help="take away a dead mount that is there")
    flag("--journal", metavar="PATH", help="where changes are kept for the case of a crash")
    flag("--no-journal", action="store_true", help="keep nothing: a crash loses all")
    flag("--journal-on-disk", action="store_true", help="let the journal be on a disk")
    flag("--kcm-socket", type=_path, metavar="PATH", help="serve KCM: ccaches there, too")
    flag("--max-ccaches", type=count, metavar="N", help="most ccaches at a time")
    flag("--max-ccache-size", type=size, metavar="SIZE", help="largest ccache, such as 8M")
    flag("--max-total-size", type=size, metavar="SIZE", help="all ccaches together")
    flag("--max-credentials", type=count, metavar="N", help="credentials in all ccaches together")
    flag("--max-open", type=count, metavar="N", help="most open files at a time")
    flag("--max-events", type=count, metavar="N", help="events that are kept")
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
    parser.add_argument("copy", metavar="COPY", help="the name of the ccache that becomes the same")
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
    "restart": Command("have the installed code go on with a mount", "restart", _mountpoint),
    "status": Command("show what a mount says about itself", "status", _json_option),
    "list": Command("list the ccaches of the collection", "list_", _json_option),
    "env": Command("print the export line for KRB5CCNAME", "env", _mountpoint),
    "switch": Command("make a ccache the default", "ccaches:switch", _name_options),
    "destroy": Command("destroy a ccache", "ccaches:destroy", _name_options),
    "copy": Command("make a copy of a ccache", "copy", _copy_options),
    "import": Command("move ccaches from elsewhere into the mount", "import_", _import_options),
    "export": Command("write a ccache out to a file", "export", _export_options),
    "wait": Command("return at the next change", "ccaches:wait", _wait_options),
    "lock": Command("run a command under a ccache's lock", "ccaches:lock", _lock_options),
    "watch": Command("follow the events of a mount", "watch", _watch_options),
    "doctor": Command("say what is wrong, and what to do about it", "doctor", _json_option),
}
