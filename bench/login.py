# SPDX-License-Identifier: MIT
"""What a login costs: `python -m bench.login`, as root.

Times pamtester's open and close of a session without the module, with it as a user's first session,
and with it as a second one, interleaved at random; then logs many users in at once, looks at what
their daemons weigh, and logs them out.  Everything happens on a stage of its own
(tests/support/login.py), with what `make install` installs.

Knows clocks and /proc; never what ccfsd does.
"""

import argparse
import contextlib
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.login import Stage, install, stage, wait_until
from tests.support.login_sessions import ask, ccfsd, is_over

FIRST_UID = 64100
PATIENT = "timeout=60s"
"""For many at once: what is measured is when they are in, not whether they still want to be."""
SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many users' first logins at once.

    `named` is how many sessions had the variable; times are in seconds, weights in KiB of PSS:
    `daemon` of one user's processes, `host` of ccfsd's own.
    """

    users: int
    named: int
    logged_in: float
    logged_out: float
    daemon: float
    host: float
    left: int


def main(argv: list[str] | None = None) -> int:
    """Measure, and print tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.login", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each kind of login (20)")
    parser.add_argument("--users", type=int, default=200, help="logged in at once (200)")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    given = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("bench.login: error: it takes root", file=sys.stderr)
        return 2
    with _place(given.users) as place, ccfsd(place, "--no-kcm"):
        _print_logins(_logins(place, given.rounds, random.Random(given.seed)))
        patient = _crowd(place, given.users, "patient")
        hasty = _crowd(place, given.users, "plain")
    _print_crowd(patient, hasty)
    return 1 if patient.left or hasty.left else 0


@contextlib.contextmanager
def _place(users: int) -> Iterator[Stage]:
    """A stage with so many users, and services with and without the module."""
    with tempfile.TemporaryDirectory(prefix="ccfs-bench-", dir="/dev/shm") as directory:
        installed = Path(directory)
        installed.chmod(0o755)
        install(installed)
        with stage(installed) as place:
            _add_users(place, users)
            permit = "required pam_permit.so"
            place.service("without", permit)
            place.service("skipped", permit, "optional pam_ccfs.so skip_services=skipped")
            place.service("plain", permit, "optional pam_ccfs.so")
            place.service("patient", permit, f"optional pam_ccfs.so {PATIENT}")
            yield place


def _add_users(place: Stage, users: int) -> None:
    with (
        (place.directory / "etc/passwd").open("a") as passwd,
        (place.directory / "etc/group").open("a") as group,
        (place.directory / "etc/shadow").open("a") as shadow,
    ):
        for uid in range(FIRST_UID, FIRST_UID + users):
            passwd.write(f"u{uid}:x:{uid}:{uid}::/:/bin/sh\n")
            group.write(f"u{uid}:x:{uid}:\n")
            shadow.write(f"u{uid}:*:19000::::::\n")


# One login at a time

KINDS = {
    "without the module": ("without", False),
    "with the module, where it does nothing": ("skipped", False),
    "a first session": ("plain", False),
    "a second session": ("plain", True),
}
TIMER = """
import os, sys, time
for line in sys.stdin:
    argv = line.split()
    began = time.perf_counter()
    pid = os.posix_spawn("/usr/bin/pamtester", argv, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    status = os.waitpid(pid, 0)[1]
    print(time.perf_counter() - began if status == 0 else -1.0, flush=True)
"""


def _logins(place: Stage, rounds: int, chance: random.Random) -> dict[str, list[float]]:
    """Milliseconds of pamtester's open and close, by kind."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    timer = place.start(
        *("/usr/bin/python3", "-IS", "-c", TIMER), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        for number in range(rounds + 1):
            for kind in chance.sample(list(KINDS), len(KINDS)):
                taken = _login(place, timer, *KINDS[kind])
                if number:  # the first round warms up
                    times[kind].append(taken * 1000)
    finally:
        timer.communicate()
    return times


def _login(place: Stage, timer: "subprocess.Popen[str]", service: str, second: bool) -> float:
    with contextlib.ExitStack() as held:
        if second:
            assert held.enter_context(place.session("patient", "alice")).open()
        assert timer.stdin is not None
        assert timer.stdout is not None
        timer.stdin.write(f"pamtester {service} alice open_session close_session\n")
        timer.stdin.flush()
        taken = float(timer.stdout.readline())
        assert taken > 0, "pamtester has failed"
    wait_until(lambda: is_over(place))
    return taken


# Many at once


def _crowd(place: Stage, users: int, service: str) -> Crowd:
    """Log so many users in, each by a su of their own, and out again."""
    stack = (place.directory / "etc/pam.d" / service).read_text()
    (place.directory / "etc/pam.d/su").write_text(stack)
    uids = range(FIRST_UID, FIRST_UID + users)
    names = " ".join(f"u{uid}" for uid in uids)
    script = f"for user in {names}; do su $user -c 'echo =$KRB5CCNAME; read x' & done; wait"
    began = time.monotonic()
    process = place.start(
        "sh",
        *("-c", f"exec 3<&0; {script.replace('read x', 'read x <&3')}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    said = [process.stdout.readline() for _ in uids]
    logged_in = time.monotonic() - began
    daemon, host = _weights(place, range(FIRST_UID, FIRST_UID + users))
    began = time.monotonic()
    process.stdin.close()
    process.wait(SECONDS)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: is_over(place) and _status(place) == (0, 0), SECONDS)
    logged_out = time.monotonic() - began
    named = sum(line.startswith("=FILE:/run/ccfs/") for line in said)
    left = len([line for line in place.mounts() if line]) + sum(_status(place))
    process.stdout.close()
    return Crowd(users, named, logged_in, logged_out, daemon, host, left)


def _status(place: Stage) -> tuple[int, int]:
    found = re.search(r"daemons=(\d+) sessions=(\d+)", ask(place, "status"))
    assert found is not None
    return int(found[1]), int(found[2])


def _weights(place: Stage, uids: range) -> tuple[float, float]:
    """PSS in KiB of all of a user's processes of ccfs, on average, and of ccfsd's own."""
    users, host = [], 0.0
    for pid in place.processes():
        with contextlib.suppress(OSError):
            if "ccfsd" not in Path(f"/proc/{pid}/cmdline").read_text():
                continue
            weight = _pss(pid)
            if Path(f"/proc/{pid}").stat().st_uid == 0 and _owner(pid) == 0:
                host += weight
            else:
                users.append(weight)
    return sum(users) / max(1, len(uids)), host


def _owner(pid: int) -> int:
    """Whose process it is; who owns its files in /proc doesn't tell where it can't be dumped."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^Uid:\s+(\d+)", status, re.M)[0])


def _pss(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.M)[0])


# Saying it


def _print_logins(times: dict[str, list[float]]) -> None:
    base = statistics.median(times["without the module"])
    print("| open and close in pamtester, ms | median | from | to | more than without |")
    print("|---|---|---|---|---|")
    for kind, taken in times.items():
        median = statistics.median(taken)
        print(
            f"| {kind} | {median:.1f} | {min(taken):.1f} | {max(taken):.1f} | {median - base:.1f} |"
        )
    print(f"\n{len(next(iter(times.values())))} of each, in random order.\n", flush=True)


def _print_crowd(patient: Crowd, hasty: Crowd) -> None:
    print(f"| {patient.users} users at once | |\n|---|---|")
    print(f"| all logged in | {patient.logged_in:.2f} s |")
    print(f"| of them with KRB5CCNAME | {patient.named} |")
    print(f"| PSS of an idle user's processes | {patient.daemon / 1024:.2f} MiB |")
    print(f"| PSS of ccfsd | {patient.host / 1024:.2f} MiB |")
    print(f"| all logged out, nothing left | {patient.logged_out:.2f} s |")
    print(f"| left of them | {patient.left} |")
    print(f"| with KRB5CCNAME where the module waits for a second at most | {hasty.named} |")
    print(f"| all logged in then | {hasty.logged_in:.2f} s |")


if __name__ == "__main__":
    sys.exit(main())
