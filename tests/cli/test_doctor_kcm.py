# SPDX-License-Identifier: MIT
"""`ccfs doctor` tells ccfs at the KCM socket from anybody else, and knows krb5.conf."""

import contextlib
import json
import os
import socket
from pathlib import Path

import pytest

from ccfs.cli.doctor import kcm_server, krb5_conf, krb5ccname_check
from ccfs.cli.doctor.machine import Machine
from tests.support.mounting import MakeMount, run_ccfs


def test_kcm_served_by_ccfs_is_no_fault(make_mount: MakeMount, tmp_path: Path) -> None:
    path = str(tmp_path / "kcm")
    mounted = make_mount("--kcm-socket", path, "--no-journal")
    found = kcm_server.check(Machine({}, os.geteuid(), kcm_socket=path))
    assert found.ok
    assert found.message == f"process {mounted.pid} serves KCM: ccaches at {path}: ccfs"
    user = Machine({"KRB5CCNAME": "KCM:"}, os.geteuid(), kcm_socket=path)
    assert krb5ccname_check.check(str(mounted.path), user).ok


def test_kcm_served_by_other_process_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "kcm")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        found = kcm_server.check(Machine({}, os.geteuid(), kcm_socket=path))
    name = Path("/proc/self/comm").read_text().strip()
    assert not found.ok
    assert found.message == f"process {os.getpid()} serves KCM: ccaches at {path}: {name}"
    assert "docs/admin/kcm.md" in found.hint


CONFIGURED = "[libdefaults]\n\tdefault_ccache_name = KCM:\n\tkcm_socket = {}\n"


def configured(directory: Path, text: str) -> dict[str, str]:
    """The environment of a shell without KRB5CCNAME, with this krb5.conf."""
    (directory / "krb5.conf").write_text(text)
    environment = {**os.environ, "KRB5_CONFIG": str(directory / "krb5.conf")}
    environment.pop("KRB5CCNAME", None)
    return environment


def test_kcm_socket_is_read_from_krb5_conf(make_mount: MakeMount, tmp_path: Path) -> None:
    """`KCM:` and its socket are known from there, to the command as to libkrb5."""
    path = tmp_path / "kcm"
    mounted = make_mount("--kcm-socket", str(path), "--no-journal")
    environment = configured(tmp_path, CONFIGURED.format(path))
    done = run_ccfs("doctor", "--json", mounted.path, env=environment)
    found = {row["check"]: row for row in json.loads(done.stdout)}
    assert found["kcm"]["what"] == f"process {mounted.pid} serves KCM: ccaches at {path}: ccfs"
    assert found["krb5ccname"]["ok"]
    assert found["krb5ccname"]["what"].endswith("krb5.conf's KCM:, which ccfs serves")


def test_kcm_without_server_is_a_fault_only_if_used(tmp_path: Path) -> None:
    """Only where programs would look for one is that a fault."""
    path = tmp_path / "kcm"
    environment = configured(tmp_path, CONFIGURED.format(path))
    found = kcm_server.check(Machine.of(environment, 7))
    assert found.message == f"programs use KCM:, and no process listens at {path}"
    assert f"--kcm-socket {path}" in found.hint
    assert not krb5ccname_check.check("/m", Machine.of(environment, 7)).ok
    elsewhere = {**environment, "KRB5CCNAME": "FILE:/m/default/ccache"}
    assert kcm_server.check(Machine.of(elsewhere, 7)).ok


@pytest.mark.parametrize(
    ("name", "ok"),
    [("KCM:", True), ("KCM:7", True), ("KCM:7:work", True), ("KCM:8", False), ("KCM:work", False)],
)
def test_kcm_residual_of_other_user_is_a_fault(
    name: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's name, and one without a user, are served to no client."""
    monkeypatch.setattr(kcm_server, "is_ccfs", lambda _: True)
    for here in (Machine({"KRB5CCNAME": name}, 7), Machine({}, 7, default_ccache=name)):
        assert krb5ccname_check.check("/m", here).ok is ok


def test_kcm_socket_of_another_mount_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ccfs serves there, but not this mount, which says in `info` where it does."""
    monkeypatch.setattr(kcm_server, "is_ccfs", lambda _: True)
    (tmp_path / "link").symlink_to(tmp_path)
    here = Machine({"KRB5CCNAME": "KCM:"}, 7, kcm_socket=f"{tmp_path}/link/kcm")
    assert krb5ccname_check.check("/m", here, f"{tmp_path}/kcm").ok
    found = krb5ccname_check.check("/m", here, f"{tmp_path}/other")
    assert found.message == "KRB5CCNAME=KCM: points elsewhere"
    assert found.hint.endswith(f"or set kcm_socket = {tmp_path}/other in krb5.conf")


def test_krb5_conf_dir_ccache_in_mount_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    text = f"[libdefaults]\n default_ccache_name = DIR:{tmp_path}/dir\n"
    here = Machine.of(configured(tmp_path, text), 7)
    assert krb5ccname_check.check(str(tmp_path), here).ok


FORMS = {
    "[libdefaults]\nNAME = /a\nNAME = /b\n": "/a",
    '# x\n[realms]\nR = {\n NAME = /no\n}\n [libdefaults]\n NAME="/a b"  \n': "/a b",
    "[libdefaults]\nR = {\nNAME = /no\n}\nNAME = /a\n": "/a",
    "[libdefaults]*\n;NAME = /no\nNAME*=/a": "/a",
    "include {there}/included\n[libdefaults]\nNAME = /b\n": "/a",
    "includedir {there}/more\n": "/c",
    "include {there}/krb5.conf\n[libdefaults]\nNAME = /a\n": "/a",
    "[libdefaults]\nNAME = /run/%{uid}/%{euid}\n": f"/run/{os.getuid()}/{os.geteuid()}",
    "[realms]\nNAME = /no\n": "",
    "\udcff\n[libdefaults\n= {": "",
    "include {there}/absent\nincludedir {there}/absent\n": "",
}


@pytest.mark.parametrize("form", FORMS)
def test_krb5_conf_is_read_as_by_libkrb5(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as libkrb5 reads them, where it reads them at all."""
    setting = "default_ccache_name"
    (tmp_path / "included").write_text(f"[libdefaults]\n{setting} = /a\n")
    (tmp_path / "more").mkdir()
    for name, value in (("a.rpmsave", "/no"), (".b.conf", "/no"), ("c.conf", "/c"), ("d", "/d")):
        (tmp_path / "more" / name).write_text(f"[libdefaults]\n{setting} = {value}\n")
    text = form.replace("{there}", str(tmp_path)).replace("NAME", setting)
    (tmp_path / "krb5.conf").write_text(text, errors="surrogateescape")
    files = f"{tmp_path}/absent:{tmp_path}/krb5.conf"
    assert krb5_conf.libdefault(setting, {"KRB5_CONFIG": files}) == FORMS[form]
    monkeypatch.setenv("KRB5_CONFIG", files)
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    krb5 = pytest.importorskip("krb5")
    with contextlib.suppress(krb5.Krb5Error):
        default = f"FILE:/tmp/krb5cc_{os.getuid()}"
        found = krb5.cc_default_name(krb5.init_context())
        assert found.decode() == (FORMS[form] or default)
