# SPDX-License-Identifier: MIT
"""Reads a ccache over and over until its standard input ends: `reader HOW PATH`.

HOW is `libkrb5` (iterates with a cursor), `locked` (reads the bytes under a shared POSIX lock),
`unlocked`, or `changing` (unlocked; credentials may go, and the ccache with them). Every credential
read must be one of records.py, and but for `changing` none may go missing from one reading to the
next. Prints "ready" first, begins when a line comes in, and prints at the end how often it read and
how many credentials the last reading had.
"""

import fcntl
import select
import sys

import krb5
import records


def by_libkrb5(path: str) -> list[str]:
    context = krb5.init_context()
    found = []
    for credential in krb5.cc_resolve(context, f"FILE:{path}".encode()):
        server = str(credential.server).partition("@")[0]
        if credential.ticket != records.secrets_of(server)[1]:
            raise records.TornError(server)
        found.append(server)
    return found


def locked(path: str) -> list[str]:
    with open(path, "rb", buffering=0) as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        image = file.readall()
        fcntl.lockf(file, fcntl.LOCK_UN)
    return records.servers_in(image)


def unlocked(path: str) -> list[str]:
    with open(path, "rb", buffering=0) as file:
        return records.servers_in(file.readall(), complete=False)


def changing(path: str) -> list[str]:
    try:
        with open(path, "rb", buffering=0) as file:
            records.servers_in(file.readall(), complete=False, removed=True)
    except FileNotFoundError:
        pass
    return []


readers = {"libkrb5": by_libkrb5, "locked": locked, "unlocked": unlocked, "changing": changing}
read = readers[sys.argv[1]]
print("ready", flush=True)
sys.stdin.readline()
seen: list[str] = []
readings = 0
over = False
while not over:
    # decided before the last reading, which thus sees all
    over = bool(select.select([sys.stdin], [], [], 0)[0])
    found = read(sys.argv[2])
    if found[: len(seen)] != seen:
        raise records.TornError(f"{len(seen)} credentials, then other {len(found)}")
    seen = found
    readings += 1
print("read", readings, "last", len(seen))
