"""The entry of `ccfs`: find the command, run it, turn its end into an exit status.

Knows the commands by name; never what they do. No exception passes through here
but argparse's SystemExit.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Sequence

from ccfs.cli import arguments, output
from ccfs.errors import Exit, UserError
from ccfs.linux import standard_streams

_MOUNTED = "if the mount is there, 'ccfs env' prints the line, and 'ccfs unmount' removes it"
_NO_OUTPUT = "make room where the output goes, or name another place"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit status."""
    given = Namespace(debug=False, command="")
    standard_streams.prepare()
    try:
        given = arguments.parse(argv)
        status = _run(given)
        standard_streams.finish()
    except SystemExit as error:  # argparse's, after --help and --version
        raise SystemExit(_finish(int(error.code or 0))) from None
    except UserError as error:
        return _finish(output.fail(error))
    except KeyboardInterrupt:
        return _finish(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        return _reader_has_enough()
    except standard_streams.OutputError as error:
        return _not_written(error, given.command)
    except Exception as error:
        return _finish(output.crash(error, given.debug))
    return status


def _run(given: Namespace) -> int:
    module, _, function = given.module.partition(":")
    command = importlib.import_module(f"ccfs.cli.{module}")
    return int(getattr(command, function or "run")(given))


def _finish(status: int) -> int:
    """Write what was printed before the command ended with `status`."""
    try:
        standard_streams.finish()
    except BrokenPipeError:
        standard_streams.give_up()
    except standard_streams.OutputError as error:
        return _not_written(error, "") if status == Exit.OK else _dropped(status)
    return status


def _dropped(status: int) -> int:
    standard_streams.give_up()
    return status


def _not_written(error: standard_streams.OutputError, command: str) -> int:
    """Say that the output is lost; what the command has done stays done."""
    standard_streams.give_up()
    hint = _MOUNTED if command == "mount" else _NO_OUTPUT
    return output.fail(UserError(f"cannot write the output: {error.reason.lower()}", hint))


def _reader_has_enough() -> int:
    """`ccfs list | head -1` is no failure; keep the interpreter from flushing into the pipe."""
    standard_streams.give_up()
    return int(Exit.OK)
