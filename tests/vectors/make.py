# SPDX-License-Identifier: MIT
"""Makes the ccaches of this directory, each with the implementation that its name says.

Knows how real Kerberos programs are run, never the format.  It needs a KDC and programs that can't
all be installed together, so it isn't part of the tests; README.md tells how to run it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import krb5
from impacket.krb5.ccache import CCache
from k5test import K5Realm
from minikerberos.common.ccache import CCACHE

HERE = Path(__file__).parent
SERVICE = "host/www.krbtest.com"
ODD = "odd\\/name\\@with\\ttab/and\\\\more"
HEIMDAL = Path(os.environ.get("HEIMDAL", "/usr"))
JAVA_EXPORTS = [
    f"--add-exports=java.security.jgss/sun.security.krb5{part}=ALL-UNNAMED"
    for part in ("", ".internal.ccache")
]


def main() -> None:
    with a_realm() as realm:
        mit(realm)
        heimdal(realm)
        java(realm)
    python()
    broken()


@contextmanager
def a_realm() -> Iterator[K5Realm]:
    conf = {
        "libdefaults": {
            "ticket_lifetime": "8h",
            "renew_lifetime": "2d",
            "forwardable": "true",
            "dns_canonicalize_hostname": "false",
            "rdns": "false",
        },
        "realms": {"$realm": {"kdc": "127.0.0.1:$port0"}},
    }
    realm = K5Realm(krb5_conf=conf, create_host=False, get_creds=False)
    try:
        for name in (SERVICE, ODD):
            realm.run(["/usr/sbin/kadmin.local", "addprinc", "-randkey", name])
        realm.addprinc("other", "secret")
        yield realm
    finally:
        realm.stop()


def out(name: str) -> str:
    path = HERE / name
    path.unlink(missing_ok=True)
    return str(path)


def mit(realm: K5Realm) -> None:
    password = realm.password("user")
    for version in (1, 2, 3, 4):
        conf = Path(realm.tmpdir) / f"v{version}.conf"
        text = Path(realm.env["KRB5_CONFIG"]).read_text()
        choice = f"[libdefaults]\n\tccache_type = {version}\n"
        conf.write_text(text.replace("[libdefaults]\n", choice, 1))
        env = dict(realm.env, KRB5_CONFIG=str(conf))
        cache = out(f"mit-v{version}.ccache")
        realm.run(["kinit", "-c", cache, realm.user_princ], input=password + "\n", env=env)
        realm.run(["kvno", "-c", cache, SERVICE, ODD], env=env)
    mit_special(realm, password)


def mit_special(realm: K5Realm, password: str) -> None:
    addresses = out("mit-addresses.ccache")
    realm.run(["kinit", "-a", "-c", addresses, realm.user_princ], input=password + "\n")
    other = str(Path(realm.tmpdir) / "other")
    realm.run(["kinit", "-c", other, "other"], input="secret\n")
    u2u = out("mit-second-ticket.ccache")
    realm.run(["kinit", "-c", u2u, realm.user_princ], input=password + "\n")
    realm.run(["kvno", "-c", u2u, "--u2u", other, "other"])
    postdated = out("mit-postdated.ccache")
    realm.run(["kinit", "-p", "-s", "1h", "-c", postdated, realm.user_princ], input=password + "\n")
    mit_removed(realm, password)


def mit_removed(realm: K5Realm, password: str) -> None:
    cache = out("mit-removed.ccache")
    realm.run(["kinit", "-c", cache, realm.user_princ], input=password + "\n")
    realm.run(["kvno", "-c", cache, SERVICE])
    os.environ["KRB5_CONFIG"] = realm.env["KRB5_CONFIG"]
    context = krb5.init_context()
    ccache = krb5.cc_resolve(context, cache.encode())
    krb5.cc_set_config(context, ccache, None, b"gone", b"value")
    krb5.cc_set_config(context, ccache, None, b"gone", None)
    krb5.cc_set_config(context, ccache, None, b"kept", b"value")
    for credential in list(ccache):
        if str(credential.server).startswith("host/"):
            krb5.cc_remove_cred(context, ccache, 0, credential)


def heimdal(realm: K5Realm) -> None:
    tools = HEIMDAL / "bin"
    cache = out("heimdal.ccache")
    kinit = [str(tools / "kinit.heimdal"), "--password-file=STDIN", "-c", f"FILE:{cache}"]
    realm.run([*kinit, realm.user_princ], input=realm.password("user") + "\n")
    realm.run([str(tools / "kgetcred"), "-c", f"FILE:{cache}", SERVICE])
    removed = out("heimdal-removed.ccache")
    Path(removed).write_bytes(Path(cache).read_bytes())
    Path(removed).chmod(0o600)
    kdestroy = [str(tools / "kdestroy.heimdal"), "-c", f"FILE:{removed}"]
    realm.run([*kdestroy, f"--credential={SERVICE}@{realm.realm}"])


def java(realm: K5Realm) -> None:
    command = [
        "java",
        *JAVA_EXPORTS,
        f"-Djava.security.krb5.conf={realm.env['KRB5_CONFIG']}",
        str(HERE / "MakeCcache.java"),
        realm.user_princ,
        realm.password("user"),
        SERVICE,
        out("java.ccache"),
    ]
    subprocess.run(command, check=True, timeout=60)


def python() -> None:
    """What other implementations in Python make of MIT's ccache."""
    source = str(HERE / "mit-v4.ccache")
    CCache.loadFile(source).saveFile(out("impacket.ccache"))
    CCACHE.from_file(source).to_file(out("minikerberos.ccache"))


def broken() -> None:
    """MIT's ccache with one thing wrong.  Offsets: 16 is the principal, 20 its count of parts."""
    good = (HERE / "mit-v4.ccache").read_bytes()
    made = {
        "truncated": good[:-1],
        "version": b"\x05\x05" + good[2:],
        "no-ccache": b"\x04" + good[1:],
        "tag-length": good[:6] + b"\x00\x09" + good[8:],
        "count": good[:20] + b"\x10\x00\x00\x00" + good[24:],
        "realm-4gib": good[:24] + b"\xff\xff\xff\xff" + good[28:],
        "ticket-4gib": good.replace(b"\0\0\x01\xab\x61", b"\xff\xff\xff\xf0\x61", 1),
        "trailing": good + b"\0",
    }
    for name, data in made.items():
        (HERE / f"broken-{name}.ccache").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
