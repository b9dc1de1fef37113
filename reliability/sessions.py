# SPDX-License-Identifier: MIT
"""Many users at once: how long they take to log in and out, and what their daemons cost.

`python -m reliability.sessions --users 200`: a ccfsd in a namespace of its own, a session for each
user opened at the same time, the memory of daemons and notifiers (PSS, smaps_rollup), all sessions
closed, and whether anything is left.  Needs root.
"""

import argparse
import os
import statistics
import threading
import time
from pathlib import Path

from tests.support.ccfsd import CcfsdHost, ccfsd_host
from tests.support.shell import wait_until

FIRST = 70000


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description="Log many users in at once.")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=20, help="single logins to time")
    given = parser.parse_args()
    with ccfsd_host() as host:
        host.start("--no-kcm")
        single(host, given.repeat)
        crowd(host, given.users)


def single(host: CcfsdHost, count: int) -> None:
    """One login after the other: the first session of a user, and the second."""
    first, second, last = [], [], []
    with host.client() as client:
        for uid in range(FIRST, FIRST + count):
            values: dict[str, str | int] = {
                "uid": uid,
                "gid": uid,
                "user": "",
                "scope": "user",
                "service": "t",
            }
            begin = time.perf_counter()
            one = client.ask("open", **values, deadline=10000)
            then = time.perf_counter()
            two = client.ask("open", **values, deadline=10000)
            again = time.perf_counter()
            client.ask("close", session=two.values["session"])
            before = time.perf_counter()
            client.ask("close", session=one.values["session"])
            end = time.perf_counter()
            first.append(then - begin)
            second.append(again - then)
            last.append(end - before)
            wait_until(host.is_empty, "something is left")
    for what, times in (("first open", first), ("second open", second), ("last close", last)):
        print(f"{what}: median of {count} {statistics.median(times) * 1000:.1f} ms")


def crowd(host: CcfsdHost, count: int) -> None:
    """All of them at once."""
    sessions: list[str] = []

    def login(uid: int) -> None:
        sessions.append(host.open(uid, deadline=60000).values["session"])

    threads = [threading.Thread(target=login, args=(FIRST + n,)) for n in range(count)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{count} users logged in: {time.perf_counter() - begin:.2f} s")
    time.sleep(2)  # let them come to rest
    daemons = [host.daemon(FIRST + n) for n in range(count)]
    print_memory(daemons)
    begin = time.perf_counter()
    for session in sessions:
        host.close(session)
    print(f"sessions closed: {time.perf_counter() - begin:.2f} s")
    wait_until(host.is_empty, "something is left")
    print(f"nothing is left: {time.perf_counter() - begin:.2f} s")


def print_memory(daemons: list[int]) -> None:
    """PSS of daemons and their notifiers, each on the average."""
    notifiers = [
        int(child)
        for pid in daemons
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]
    rest = {"daemon": pss(daemons), "notifier": pss(notifiers)}
    for what, sizes in rest.items():
        print(f"{what}: {' '.join(f'{key} {value:.2f}' for key, value in sizes.items())} MiB")
    total = sum(sizes["Pss"] for sizes in rest.values())
    print(f"PSS of an idle daemon with its notifier: {total:.2f} MiB")


def pss(pids: list[int]) -> dict[str, float]:
    """The averages of what smaps_rollup says, in MiB."""
    sums = dict.fromkeys(("Pss", "Private_Dirty", "Shared_Dirty"), 0.0)
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) / 1024 / len(pids)
    return sums


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("it needs root")
    main()
