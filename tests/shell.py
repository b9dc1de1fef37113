"""Uses of a mount as a user makes them: commands of a shell, and what one can wait for.

Knows processes, never what a mount holds.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SECONDS = 20.0
OPENAT = "257"

Process = subprocess.Popen[bytes]


def sh(directory: Path, script: str, *arguments: str, status: int = 0) -> str:
    """What a script prints when it runs in `directory`, with both outputs in one."""
    done = subprocess.run(
        ["timeout", "-s", "KILL", str(SECONDS), "bash", "-c", script, "sh", *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
        check=False,
        timeout=2 * SECONDS,
    )
    output = done.stdout.decode(errors="surrogateescape")
    assert done.returncode == status, f"status {done.returncode}: {output}"
    return output


@contextlib.contextmanager
def running(command: Sequence[str], directory: Path) -> Iterator[Process]:
    """A process in the background with its output in a pipe; killed when the block ends."""
    process = subprocess.Popen(
        list(command), cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def output_until(process: Process, wanted: bytes) -> bytes:
    """What a process prints until `wanted` is in it."""
    assert process.stdout is not None
    poll, said = select.poll(), b""
    poll.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + SECONDS
    while wanted not in said:
        left = deadline - time.monotonic()
        assert left > 0, said
        assert poll.poll(left * 1000), said
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, said
        said += piece
    return said


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for a state that nothing announces, within a bound."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def await_open(process: Process) -> None:
    """Wait until a process is blocked in open(2), as one that waits at a FIFO is."""
    path = Path(f"/proc/{process.pid}/syscall")
    wait_until(lambda: path.read_text().startswith(f"{OPENAT} "), "it does not wait at a FIFO")
