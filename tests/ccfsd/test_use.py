"""What uses ccfsd without a login: the command, the CCAPI, KCM, and the import at login."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.ccfsd import Place
from tests.support.ccfsd_clients import IMAGE, has_it, store
from tests.support.ccfsd_fixtures import KCM, USER, here, python_command, shared_place
from tests.support.require import require
from tests.support.shell import wait_until

__all__ = ["here", "shared_place"]  # fixtures


def python(where: Place, *arguments: str, uid: int = USER, **variables: str) -> tuple[int, str]:
    """The status of a Python that a user runs, and what it prints."""
    process = where.popen(
        python_command(where, *arguments, uid=uid, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = process.communicate(timeout=90)
    return process.returncode, said


def test_env_and_mount_use_ccfsd_mount(here: Place) -> None:
    """The first who needs a mount gets one; the next one gets the same."""
    line = f"export KRB5CCNAME=FILE:/run/ccfs/{USER}/default/ccache\n"
    assert python(here, "-m", "ccfs", "env") == (0, line)
    daemon = here.daemon(USER)
    assert python(here, "-m", "ccfs", "mount") == (0, line)
    assert here.daemon(USER) == daemon
    status, said = python(here, "-m", "ccfs", "status")
    assert (status, said.splitlines()[0]) == (0, f"mountpoint: /run/ccfs/{USER}")


def test_own_mount_takes_precedence_over_ccfsd(here: Place) -> None:
    """Where `ccfs mount` has made one, that is meant; ccfsd isn't asked."""
    runtime = here.directory / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.chown(runtime, USER, USER)
    variables = {"XDG_RUNTIME_DIR": str(runtime)}
    status, said = python(here, "-m", "ccfs", "mount", "--no-journal", uid=USER, **variables)
    assert (status, said) == (0, f"export KRB5CCNAME=FILE:{runtime}/ccfs/default/ccache\n")
    assert python(here, "-m", "ccfs", "env", **variables)[1] == said  # type: ignore[arg-type]
    assert not here.daemon(USER)
    assert python(here, "-m", "ccfs", "unmount", **variables)[0] == 0  # type: ignore[arg-type]


CCAPI = """
import sys
from ccfs import ccapi
context = ccapi.initialize()
change = context.get_change_time()
context.create_default_ccache(ccapi.cc_credentials_v5, "alice@EXAMPLE.COM")
print(context.get_default_ccache_name())
"""


def test_ccapi_requests_mount_of_ccfsd(here: Place) -> None:
    assert python(here, "-c", CCAPI) == (0, "tkt\n")
    assert here.daemon(USER)
    here.sh(f"kill -TERM {here.daemon(USER)}")
    wait_until(lambda: not here.daemon(USER), "it stays")
    assert python(here, "-c", CCAPI) == (0, "tkt\n")


def test_kcm_clients_reach_daemon_of_their_uid(here: Place) -> None:
    """klist and kinit's library find a server at the well-known socket: that of their own uid."""
    klist = require("MIT Kerberos", "apt install krb5-user", ["klist", "kswitch"])["klist"]
    config = here.directory / "krb5.conf"
    config.write_text(f"[libdefaults]\nkcm_socket = {KCM}\ndefault_ccache_name = KCM:\n")
    config.chmod(0o644)

    def listed(uid: int) -> str:
        return here.sh(f"KRB5_CONFIG={config} {klist} -l 2>&1", uid, status=None)

    assert "tkt" not in listed(USER)
    assert here.daemon(USER)
    store(here, USER)
    assert "alice@KRBTEST.COM" in listed(USER)
    assert "alice@KRBTEST.COM" not in listed(USER + 1)
    assert {m.owner for m in here.mounts() if m.is_ccfs} == {USER, USER + 1}
    old = here.daemon(USER)
    here.sh(f"kill -KILL {old}")
    assert "alice@KRBTEST.COM" in listed(USER)


def left_behind(where: Place, uid: int, name: str = "krb5cc") -> Path:
    """A ccache that a login has left for us."""
    (where.directory / "tmp").mkdir(exist_ok=True)
    (where.directory / "tmp").chmod(0o1777)
    path = where.directory / "tmp" / name
    path.write_bytes(IMAGE)
    os.chown(path, uid, uid)
    path.chmod(0o600)
    return path


def test_import_into_session_ccache_ends_with_session(here: Place) -> None:
    """A ccache of its own, which goes with the session while others stay."""
    other = here.open(USER)
    path = left_behind(here, USER)
    values = here.open(USER, **{"import": "session"}, ccache=f"FILE:{path}").values
    name = f"session-{values['session']}"
    assert values["ccache"] == name
    assert "imported" not in values
    assert not path.exists()
    assert here.sh(f"wc -c < /run/ccfs/{USER}/caches/{name}/ccache", USER).strip() == str(
        len(IMAGE)
    )
    here.close(values["session"])
    wait_until(lambda: name not in here.sh(f"ls /run/ccfs/{USER}/caches", USER), "it stays")
    assert not has_it(here, USER)
    here.close(other.values["session"])


@pytest.mark.parametrize("scope", ["user", "session"])
def test_import_at_login_goes_into_default(here: Place, scope: str) -> None:
    path = left_behind(here, USER)
    wanted = {"import": "if-empty" if scope == "user" else "session", "scope": scope}
    values = here.open(USER, **wanted, ccache=str(path)).values
    assert (values.get("imported"), values.get("ccache")) == ("default", None)
    assert has_it(here, USER, values["path"])
    assert not path.exists()
    again = left_behind(here, USER)
    more = here.open(USER, **{"import": "if-empty"}, ccache=str(again)).values
    assert more.get("imported") == ("default" if scope == "session" else None)
    for session in (values["session"], more["session"]):
        here.close(session)


def test_untrusted_or_unrequested_source_is_not_imported(here: Place) -> None:
    """Not asked for, or not a source to be trusted: the session opens, the file stays."""
    theirs = left_behind(here, USER + 1)
    for wanted in ("never", "if-empty", "session"):
        values = here.open(USER, **{"import": wanted}, ccache=str(theirs)).values
        assert not {"ccache", "imported"} & {*values}
        here.close(values["session"])
    assert theirs.read_bytes() == IMAGE
    assert here.lines("nothing imported")
