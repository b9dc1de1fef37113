# SPDX-License-Identifier: MIT
"""What uses ccfsd without a login: the command, the CCAPI, KCM, and the import at login."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.ccfsd import CcfsdHost
from tests.support.ccfsd_clients import IMAGE, has_it, store
from tests.support.ccfsd_fixtures import KCM, USER, host, python_command, shared_host
from tests.support.require import require
from tests.support.shell import wait_until

__all__ = ["host", "shared_host"]  # fixtures


def python(host: CcfsdHost, *arguments: str, uid: int = USER, **variables: str) -> tuple[int, str]:
    """The status of a Python that a user runs, and what it prints."""
    process = host.popen(
        python_command(host, *arguments, uid=uid, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = process.communicate(timeout=90)
    return process.returncode, said


def test_env_and_mount_use_ccfsd_mount(host: CcfsdHost) -> None:
    """The first who needs a mount gets one; the next one gets the same."""
    line = f"export KRB5CCNAME=FILE:/run/ccfs/{USER}/default/ccache\n"
    assert python(host, "-m", "ccfs", "env") == (0, line)
    daemon = host.daemon(USER)
    assert python(host, "-m", "ccfs", "mount") == (0, line)
    assert host.daemon(USER) == daemon
    status, said = python(host, "-m", "ccfs", "status")
    assert (status, said.splitlines()[0]) == (0, f"mountpoint: /run/ccfs/{USER}")


def test_own_mount_takes_precedence_over_ccfsd(host: CcfsdHost) -> None:
    """Where `ccfs mount` has made one, that is meant; ccfsd isn't asked."""
    runtime = host.directory / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.chown(runtime, USER, USER)
    variables = {"XDG_RUNTIME_DIR": str(runtime)}
    status, said = python(host, "-m", "ccfs", "mount", "--no-journal", uid=USER, **variables)
    assert (status, said) == (0, f"export KRB5CCNAME=FILE:{runtime}/ccfs/default/ccache\n")
    assert python(host, "-m", "ccfs", "env", **variables)[1] == said  # type: ignore[arg-type]
    assert not host.daemon(USER)
    assert python(host, "-m", "ccfs", "unmount", **variables)[0] == 0  # type: ignore[arg-type]


CCAPI = """
import sys
from ccfs import ccapi
context = ccapi.initialize()
change = context.get_change_time()
context.create_default_ccache(ccapi.cc_credentials_v5, "alice@EXAMPLE.COM")
print(context.get_default_ccache_name())
"""


def test_ccapi_requests_mount_of_ccfsd(host: CcfsdHost) -> None:
    assert python(host, "-c", CCAPI) == (0, "tkt\n")
    assert host.daemon(USER)
    host.sh(f"kill -TERM {host.daemon(USER)}")
    wait_until(lambda: not host.daemon(USER), "it stays")
    assert python(host, "-c", CCAPI) == (0, "tkt\n")


def test_kcm_clients_reach_daemon_of_their_uid(host: CcfsdHost) -> None:
    """klist and kinit's library find a server at the well-known socket: that of their own uid."""
    klist = require("MIT Kerberos", "apt install krb5-user", ["klist", "kswitch"])["klist"]
    config = host.directory / "krb5.conf"
    config.write_text(f"[libdefaults]\nkcm_socket = {KCM}\ndefault_ccache_name = KCM:\n")
    config.chmod(0o644)

    def listed(uid: int) -> str:
        return host.sh(f"KRB5_CONFIG={config} {klist} -l 2>&1", uid, status=None)

    assert "tkt" not in listed(USER)
    assert host.daemon(USER)
    store(host, USER)
    assert "alice@KRBTEST.COM" in listed(USER)
    assert "alice@KRBTEST.COM" not in listed(USER + 1)
    assert {m.owner for m in host.mounts() if m.is_ccfs} == {USER, USER + 1}
    old = host.daemon(USER)
    host.sh(f"kill -KILL {old}")
    assert "alice@KRBTEST.COM" in listed(USER)


def left_behind(host: CcfsdHost, uid: int, name: str = "krb5cc") -> Path:
    """A ccache that a login has left for us."""
    (host.directory / "tmp").mkdir(exist_ok=True)
    (host.directory / "tmp").chmod(0o1777)
    path = host.directory / "tmp" / name
    path.write_bytes(IMAGE)
    os.chown(path, uid, uid)
    path.chmod(0o600)
    return path


def test_import_into_session_ccache_ends_with_session(host: CcfsdHost) -> None:
    """A ccache of its own, which goes with the session while others stay."""
    other = host.open(USER)
    path = left_behind(host, USER)
    values = host.open(USER, **{"import": "session"}, ccache=f"FILE:{path}").values
    name = f"session-{values['session']}"
    assert values["ccache"] == name
    assert "imported" not in values
    assert not path.exists()
    assert host.sh(f"wc -c < /run/ccfs/{USER}/caches/{name}/ccache", USER).strip() == str(
        len(IMAGE)
    )
    host.close(values["session"])
    wait_until(lambda: name not in host.sh(f"ls /run/ccfs/{USER}/caches", USER), "it stays")
    assert not has_it(host, USER)
    host.close(other.values["session"])


@pytest.mark.parametrize("scope", ["user", "session"])
def test_import_at_login_goes_into_default(host: CcfsdHost, scope: str) -> None:
    path = left_behind(host, USER)
    wanted = {"import": "if-empty" if scope == "user" else "session", "scope": scope}
    values = host.open(USER, **wanted, ccache=str(path)).values
    assert (values.get("imported"), values.get("ccache")) == ("default", None)
    assert has_it(host, USER, values["path"])
    assert not path.exists()
    again = left_behind(host, USER)
    more = host.open(USER, **{"import": "if-empty"}, ccache=str(again)).values
    assert more.get("imported") == ("default" if scope == "session" else None)
    for session in (values["session"], more["session"]):
        host.close(session)


def test_untrusted_or_unrequested_source_is_not_imported(host: CcfsdHost) -> None:
    """Not asked for, or not a source to be trusted: the session opens, the file stays."""
    theirs = left_behind(host, USER + 1)
    for wanted in ("never", "if-empty", "session"):
        values = host.open(USER, **{"import": wanted}, ccache=str(theirs)).values
        assert not {"ccache", "imported"} & {*values}
        host.close(values["session"])
    assert theirs.read_bytes() == IMAGE
    assert host.lines("nothing imported")
