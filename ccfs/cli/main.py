# SPDX-License-Identifier: MIT
"""The entry point of `ccfs`: run a command and turn its end into an exit status.

Knows the commands by name; never what they do.  No exception leaves it but argparse's SystemExit.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Sequence

from ccfs.cli import arguments
from ccfs.commandline import messages
from ccfs.errors import Exit, UserError
from ccfs.linux import standard_streams

_MOUNT_HINT = "if the mount is there, 'ccfs env' prints the line, and 'ccfs unmount' removes it"
_OUTPUT_HINT = "make room where the output goes, or name another place"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: sys.argv); return the exit status."""
    namespace = Namespace(debug=False, command="")
    standard_streams.prepare()
    try:
        namespace = arguments.parse(argv)
        status = _run(namespace)
        standard_streams.flush()
    except SystemExit as error:  # argparse's, after --help and --version
        raise SystemExit(_finish(int(error.code or 0))) from None
    except UserError as error:
        return _finish(messages.fail(error))
    except KeyboardInterrupt:
        return _finish(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        return _end_without_output()
    except standard_streams.OutputError as error:
        return _fail_output(error, namespace.command)
    except Exception as error:
        return _finish(messages.crash(error, debug=namespace.debug))
    return status


def _run(namespace: Namespace) -> int:
    command = importlib.import_module(f"ccfs.cli.{namespace.module}")
    return int(command.run(namespace))


def _finish(status: int) -> int:
    """Write what was printed before the command ended with `status`; return the exit status."""
    try:
        standard_streams.flush()
    except BrokenPipeError:
        standard_streams.discard()
    except standard_streams.OutputError as error:
        if status == Exit.OK:
            return _fail_output(error, "")
        standard_streams.discard()
    return status


def _fail_output(error: standard_streams.OutputError, command: str) -> int:
    """Report that the output is lost; what the command did is not undone."""
    standard_streams.discard()
    hint = _MOUNT_HINT if command == "mount" else _OUTPUT_HINT
    return messages.fail(UserError(f"cannot write the output: {error.reason.lower()}", hint))


def _end_without_output() -> int:
    """End with success: the reader of a pipe has closed it, as in `ccfs list | head -1`."""
    standard_streams.discard()  # else the interpreter would flush into the pipe at its exit
    return int(Exit.OK)
