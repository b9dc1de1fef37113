"""A daemon in the background, and how the command that starts it learns of its fate.

Knows fork, sessions and a pipe; never what the daemon does. The child tells its fate once: `ready`,
or an error as JSON. It keeps what libfuse and fusermount3 print meanwhile, because they tell nobody
else why they failed.
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
    from ccfs.supervisor.supervisor import Job, Life, Serve

START_SECONDS = 20.0


_READY = b"ready"
_HINT = "run 'ccfs mount --foreground --debug' to see why"


def start(mounter: Mounter, job: Job) -> int:
    """Keep a job going for the mount of `mounter`; return the keeper's pid once it is ready.

    Its `serve` is one that tells (`telling`).  Raises the UserError that `first` or `serve` raised,
    or one that says how the daemon ended instead; the keeper has ended then, too.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become_daemon(mounter, job, writer)
    os.close(writer)
    try:
        said = _collect(reader)
    except BaseException:
        _end(child)
        raise
    finally:
        os.close(reader)
    _judge(said, child)
    return child


def _collect(reader: int) -> bytes:
    """What the child says until it closes its end, at most START_SECONDS long."""
    deadline = time.monotonic() + START_SECONDS
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    said = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        chunk = os.read(reader, 65536)
        if not chunk:
            return said
        said += chunk
    raise NoAnswerError(f"the daemon was not ready within {START_SECONDS:.0f} seconds", _HINT)


def _judge(said: bytes, child: int) -> None:
    """Raise what the child says went wrong, or what can be told of its end."""
    if said == _READY:
        return
    _, status = os.waitpid(child, 0)
    if said:
        import json

        told = json.loads(said)
        raise UserError(told["reason"], told["hint"], Exit(told["status"]))
    code = os.waitstatus_to_exitcode(status)
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    raise UserError(f"the daemon ended {how} before it was ready", _HINT)


def _end(child: int) -> None:
    """End a daemon that nobody will use; one that has ended already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def _become_daemon(mounter: Mounter, job: Job, writer: int) -> NoReturn:
    """Be the child to its end: no return, no exception, none of the parent's exit handlers."""
    from ccfs.supervisor import reimport

    status = int(Exit.UNEXPECTED)
    try:
        status = reimport.to_the_end(lambda: _keep(mounter, job, writer))
        if status < 0:
            _die_of(-status)
    finally:
        os._exit(status)


def _keep(mounter: Mounter, job: Job, writer: int) -> int:
    kept = _let_go_of_the_terminal(writer, mounter.directory)
    from ccfs.linux import hardening

    try:
        hardening.forbid_dumps()  # it holds the descriptor of the FUSE connection
        job.first()
    except Exception as error:
        os.write(writer, _report(error, ""))
        return int(Exit.UNEXPECTED)
    return _supervise(mounter, job, writer, kept)


def _die_of(number: int) -> None:
    """End as the daemon has ended."""
    with contextlib.suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _supervise(mounter: Mounter, job: Job, writer: int, kept: int) -> int:
    """Keep a daemon running; only the first one tells its fate to who waits for it."""
    from ccfs.supervisor.supervisor import Supervisor

    def let_go() -> None:
        os.dup2(0, 2)
        os.close(kept)
        os.close(writer)

    try:
        return Supervisor(mounter, job).run((writer, kept), let_go)
    except UserError as error:  # there was no mount for a first daemon
        os.write(writer, _report(error, ""))
        return int(error.status)


def _let_go_of_the_terminal(*needed: int) -> int:
    """A session of its own and no open files but `needed`; returns the memory that stderr is."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    kept = os.memfd_create("ccfs-start")
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(kept, 2)
    descriptors.close_all_but((kept, *needed))
    return kept


def telling(serve: Serve) -> Serve:
    """A `serve` that tells its fate: the first one to who waits for it, the others to the log."""

    def told(ready: Callable[[], None], life: Life) -> int:
        try:
            return _serve_first(serve, ready, life) if life.first else serve(ready, life)
        except Exception as error:
            return _log_end(error)

    return told


def _serve_first(serve: Serve, also: Callable[[], None], life: Life) -> int:
    told = False
    writer, kept = life.first
    os.dup2(kept, 2)

    def ready() -> None:
        nonlocal told
        told = True
        os.dup2(0, 2)
        os.close(kept)
        os.write(writer, _READY)
        os.close(writer)
        also()

    try:
        return serve(ready, life)
    except Exception as error:
        if told:
            return _log_end(error)
        os.write(writer, _report(error, _last_line(kept)))
        return int(Exit.UNEXPECTED)


def _report(error: Exception, printed: str) -> bytes:
    """The error as the parent will raise it, with what libfuse printed if that says more."""
    import json

    known = error if isinstance(error, UserError) else _unforeseen(error)
    more = f": {printed}" if printed and printed not in known.reason else ""
    report = {"reason": known.reason + more, "hint": known.hint, "status": int(known.status)}
    return json.dumps(report).encode()


def _unforeseen(error: Exception) -> UserError:
    return UserError(f"unexpected failure: {type(error).__name__}: {error}", _HINT)


def _log_end(error: Exception) -> int:
    import logging

    if isinstance(error, UserError):
        logging.getLogger(__name__).error("the daemon ends: %s (%s)", error.reason, error.hint)
        return int(error.status)
    logging.getLogger(__name__).error("the daemon ends: %s", redaction.describe(error))
    return int(Exit.UNEXPECTED)


def _last_line(kept: int) -> str:
    """The last line of what was printed to stderr so far, without the program's name before it."""
    printed = os.pread(kept, 65536, 0).decode(errors="replace").strip()
    line = printed.rpartition("\n")[2]
    for program in ("fusermount3: ", "fuse: "):
        line = line.removeprefix(program)
    return line
