# SPDX-License-Identifier: MIT
"""Stores credentials one after the other, then says how many: `writer HOW PATH NAME COUNT`.

HOW is `libkrb5` (krb5_cc_store_cred) or `append` (one O_APPEND descriptor for all, each credential
one write under a POSIX lock). The credentials are those of records.py for host/NAME-0 and on.
Prints "ready" and begins when a line comes in.
"""

import fcntl
import os
import sys

import krb5
import records


def by_libkrb5(path: str, servers: list[str]) -> None:
    context = krb5.init_context()
    ccache = krb5.cc_resolve(context, f"FILE:{path}".encode())
    for server in servers:
        credential = krb5.unmarshal_credentials(context, records.record(server))
        krb5.cc_store_cred(context, ccache, credential)


def by_append(path: str, servers: list[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    for server in servers:
        record = records.record(server)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        written = os.write(descriptor, record)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert written == len(record), written
    os.close(descriptor)


how, path, name, count = sys.argv[1:]
todo = [f"host/{name}-{number}" for number in range(int(count))]
print("ready", flush=True)
sys.stdin.readline()
{"libkrb5": by_libkrb5, "append": by_append}[how](path, todo)
print("stored", len(todo))
