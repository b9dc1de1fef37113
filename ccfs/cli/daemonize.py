# SPDX-License-Identifier: MIT
"""Start a supervisor in the background, and report to the command how its first daemon started.

Knows fork, sessions and a pipe; never what the daemon does.  The first daemon, or the supervisor if
there is none, reports once: `ready`, or an error as JSON.  Its stderr is a memfd until then, since
libfuse and fusermount3 print why they failed, and return only that they did.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from ccfs.errors import Exit, NoAnswerError, UserError, redaction
from ccfs.linux import descriptors

if TYPE_CHECKING:
    from ccfs.mounting.mounter import Mounter
    from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec, Serve

START_SECONDS = 20.0

_READY = b"ready"
_HINT = "run 'ccfs mount --foreground --debug' for the reason"


def start(mounter: Mounter, spec: DaemonSpec) -> int:
    """Start a supervisor for the mount of `mounter`; return its pid once the daemon is ready.

    The job's `serve` must come from `reporting`.  Raises the UserError that `set_up` or `serve`
    raised, or one that says how the daemon ended; the supervisor has ended by then, too.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_child(mounter, spec, writer)
    os.close(writer)
    try:
        report = _read_report(reader)
    except BaseException:
        _terminate(child)
        raise
    finally:
        os.close(reader)
    _check_report(report, child)
    return child


def _read_report(reader: int) -> bytes:
    """Read until the child closes its end of the pipe; NoAnswerError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    report = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        chunk = os.read(reader, 65536)
        if not chunk:
            return report
        report += chunk
    raise NoAnswerError(f"the daemon was not ready within {START_SECONDS:.0f} seconds", _HINT)


def _check_report(report: bytes, child: int) -> None:
    """Raise the reported UserError, or one with the child's exit status if there is no report."""
    if report == _READY:
        return
    _, status = os.waitpid(child, 0)
    if report:
        import json  # here: printed errors are rare

        fields = json.loads(report)
        raise UserError(fields["reason"], fields["hint"], Exit(fields["status"]))
    code = os.waitstatus_to_exitcode(status)
    end = f"by signal {-code}" if code < 0 else f"with status {code}"
    raise UserError(f"the daemon ended {end} before it was ready", _HINT)


def _terminate(child: int) -> None:
    """Send SIGTERM to the child if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def _run_child(mounter: Mounter, spec: DaemonSpec, writer: int) -> NoReturn:
    """Run the supervisor and exit, without the parent's exit handlers and exceptions."""
    from ccfs.supervisor import reimport

    status = int(Exit.UNEXPECTED)
    try:
        status = reimport.run(lambda: _run_supervisor(mounter, spec, writer))
        if status < 0:
            _kill_self(-status)
    finally:
        os._exit(status)


def _run_supervisor(mounter: Mounter, spec: DaemonSpec, writer: int) -> int:
    stderr_file = _detach_from_terminal(writer, mounter.directory)
    from ccfs.linux import hardening

    try:
        hardening.forbid_dumps()  # this process has the descriptor of the FUSE connection
        spec.set_up()
    except Exception as error:
        os.write(writer, _report(error, ""))
        return int(Exit.UNEXPECTED)
    return _supervise(mounter, spec, writer, stderr_file)


def _kill_self(number: int) -> None:
    """End by the signal that ended the daemon."""
    with contextlib.suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _supervise(mounter: Mounter, spec: DaemonSpec, writer: int, stderr_file: int) -> int:
    """Run daemons until the mount ends.  The pipe and the memfd are for the first daemon alone."""
    from ccfs.supervisor.supervisor import Supervisor

    def close_first_only() -> None:
        os.dup2(0, 2)
        os.close(stderr_file)
        os.close(writer)

    try:
        return Supervisor(mounter, spec).run((writer, stderr_file), close_first_only)
    except UserError as error:  # no mount, so that no daemon was started
        os.write(writer, _report(error, ""))
        return int(error.status)


def _detach_from_terminal(*needed: int) -> int:
    """Begin a session, close all descriptors but `needed`; return the memfd that is stderr now."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    stderr_file = os.memfd_create("ccfs-start")
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(stderr_file, 2)
    descriptors.close_all_but((stderr_file, *needed))
    return stderr_file


def reporting(serve: Serve) -> Serve:
    """Wrap `serve`: the first daemon reports to the command that waits, later ones log errors."""

    def serve_and_report(ready: Callable[[], None], setup: DaemonSetup) -> int:
        try:
            return _serve_first(serve, ready, setup) if setup.startup else serve(ready, setup)
        except Exception as error:
            return _log_end(error)

    return serve_and_report


def _serve_first(serve: Serve, on_ready: Callable[[], None], setup: DaemonSetup) -> int:
    reported = False
    writer, stderr_file = setup.startup
    os.dup2(stderr_file, 2)

    def ready() -> None:
        nonlocal reported
        reported = True
        os.dup2(0, 2)
        os.close(stderr_file)
        os.write(writer, _READY)
        os.close(writer)
        on_ready()

    try:
        return serve(ready, setup)
    except Exception as error:
        if reported:
            return _log_end(error)
        os.write(writer, _report(error, _last_line(stderr_file)))
        return int(Exit.UNEXPECTED)


def _report(error: Exception, printed: str) -> bytes:
    """Encode an error for `_check_report`; `printed`, libfuse's words, is added if it says more."""
    import json

    user_error = error if isinstance(error, UserError) else _unexpected(error)
    detail = f": {printed}" if printed and printed not in user_error.reason else ""
    report = {
        "reason": user_error.reason + detail,
        "hint": user_error.hint,
        "status": int(user_error.status),
    }
    return json.dumps(report).encode()


def _unexpected(error: Exception) -> UserError:
    return UserError(f"unexpected failure: {redaction.describe(error)}", _HINT)


def _log_end(error: Exception) -> int:
    import logging  # here: the command itself logs nothing

    if isinstance(error, UserError):
        logging.getLogger(__name__).error("the daemon ends: %s (%s)", error.reason, error.hint)
        return int(error.status)
    logging.getLogger(__name__).error("the daemon ends: %s", redaction.describe(error))
    return int(Exit.UNEXPECTED)


def _last_line(stderr_file: int) -> str:
    """Return the last line that was printed to stderr, without the program's name."""
    printed = os.pread(stderr_file, 65536, 0).decode(errors="replace").strip()
    line = printed.rpartition("\n")[2]
    for program in ("fusermount3: ", "fuse: "):
        line = line.removeprefix(program)
    return line
