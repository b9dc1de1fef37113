# SPDX-License-Identifier: MIT
"""Changes a ccache over and over: `churn HOW PATH NAME COUNT`.

HOW is `initialize` (libkrb5 initializes it and stores three credentials), `store` (libkrb5 stores
one), `remove` (libkrb5 removes the last one) or `unlink` (removes the files in `credentials/`).
A change lost to a faster client is no error. Prints "ready", starts at a line on stdin, and prints
at the end the other errors: libkrb5's codes and errnos.
"""

import errno
import os
import sys
from pathlib import Path

import krb5
import records

# No such ccache; it can't be made (it is there again); it ends too early.
FASTER = {-1765328189, -1765328188, -1765328185, errno.ENOENT}


def initialize(path: str, name: str) -> None:
    context, ccache = resolve(path)
    principal = krb5.parse_name_flags(context, records.CLIENT + b"@" + records.REALM)
    krb5.cc_initialize(context, ccache, principal)
    for number in range(3):
        store(path, f"{name}-{number}")


def store(path: str, name: str) -> None:
    context, ccache = resolve(path)
    record = records.record(f"host/{name}")
    krb5.cc_store_cred(context, ccache, krb5.unmarshal_credentials(context, record))


def remove(path: str, _: str) -> None:
    context, ccache = resolve(path)
    for credential in list(ccache)[-1:]:
        krb5.cc_remove_cred(context, ccache, krb5.CredentialsRetrieveFlags.none, credential)


def unlink(path: str, _: str) -> None:
    for entry in list((Path(path).parent / "credentials").iterdir()):
        entry.unlink(missing_ok=True)


def resolve(path: str) -> tuple[krb5.Context, krb5.CCache]:
    context = krb5.init_context()
    return context, krb5.cc_resolve(context, f"FILE:{path}".encode())


how, path, name, count = sys.argv[1:]
change = {"initialize": initialize, "store": store, "remove": remove, "unlink": unlink}[how]
print("ready", flush=True)
sys.stdin.readline()
errors: dict[str, int] = {}
for number in range(int(count)):
    try:
        change(path, f"{name}-{number}")
    except (krb5.Krb5Error, OSError) as error:
        code = error.err_code if isinstance(error, krb5.Krb5Error) else error.errno
        if code not in FASTER:
            text = f"{code}={os.strerror(code)}" if code > 0 else str(code)
            errors[text] = errors.get(text, 0) + 1
print("errors", errors)
