# SPDX-License-Identifier: MIT
"""A place from which nothing is left: namespaces of our own for mounts and processes.

This file knows Linux namespaces and keyrings, never what runs in them.  /dev/shm and /run are
fresh and empty there; when the benchmark ends, however it ends, its processes, mounts, sockets,
keys and files in memory are gone with it.  Needs root.
"""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

INSIDE = "CCFS_BENCH_INSIDE"
SYS_KEYCTL = 250 if os.uname().machine == "x86_64" else 219
KEYCTL_JOIN_SESSION_KEYRING = 1
UNSHARE = (
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
)
PR_SET_PDEATHSIG = 1
FRESH = ("/dev/shm", "/run")


def enter(arguments: Sequence[str]) -> int:
    """Run `python -m bench ARGUMENTS` inside; its exit status."""
    if os.geteuid() != 0:
        print("bench: it makes namespaces and mounts: run it as root", file=sys.stderr)
        return 2
    command = [*UNSHARE, sys.executable, "-m", "bench", *arguments]
    environment = {**os.environ, INSIDE: "1"}
    process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGKILL)


def die_with_parent() -> None:
    """For a child: be killed when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def inside() -> bool:
    """Whether this process is in there."""
    return os.environ.get(INSIDE) == "1" and os.getpid() == 1


def run(main: Callable[[], int]) -> int:
    """Ready the place, and be its first process while another one runs `main`; its status."""
    for place in FRESH:
        mount = ["mount", "-t", "tmpfs", "-o", "mode=1777", "none", place]
        subprocess.run(mount, check=True, timeout=10)
    del os.environ[INSIDE]
    os.environ.pop("XDG_RUNTIME_DIR", None)
    fresh_session_keyring()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = main()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while True:
        ended, how = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(how) & 0xFF


def fresh_session_keyring() -> bool:
    """Be in a new session keyring, which the kernel removes with its last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    joined: int = libc.syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None)
    return joined >= 0
