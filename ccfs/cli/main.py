"""The entry of `ccfs`: find the command, run it, turn its end into an exit status.

Knows the commands by name; never what they do. No exception passes through here.
"""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from ccfs.cli import arguments, output
from ccfs.errors import Exit, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit status."""
    given = Namespace(debug=False)
    try:
        given = arguments.parse(argv)
        status = _run(given)
        sys.stdout.flush()
    except UserError as error:
        return output.fail(error)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        return _reader_has_enough()
    except Exception as error:
        return output.crash(error, given.debug)
    return status


def _run(given: Namespace) -> int:
    module, _, function = given.module.partition(":")
    command = importlib.import_module(f"ccfs.cli.{module}")
    return int(getattr(command, function or "run")(given))


def _reader_has_enough() -> int:
    """`ccfs list | head -1` is no failure; keep the interpreter from flushing into the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(Exit.OK)
