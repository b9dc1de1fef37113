# SPDX-License-Identifier: MIT
"""The parser of the mount table, on lines and on the table of this process."""

import os

import pytest

from ccfs.linux import mountinfo


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "36 35 0:52 / /run/user/7/ccfs rw,nosuid - fuse.ccfs ccfs rw,user_id=7,group_id=7",
            ("/", "fuse.ccfs", 7),
        ),
        (
            "36 35 0:52 /caches /mnt rw shared:1 master:2 - fuse.ccfs ccfs rw,user_id=70",
            ("/caches", "fuse.ccfs", 70),
        ),
        ("36 35 0:52 / / rw - tmpfs tmpfs rw,size=1k", ("/", "tmpfs", None)),
        (
            "36 35 0:52 / / rw - fuse.ccfs a rw,user_id=x",
            ("/", "fuse.ccfs", None),
        ),
        ("36 35 0:52 / / rw - fuse.ccfs a\\040b rw", ("/", "fuse.ccfs", None)),
    ],
)
def test_root_type_and_owner_of_a_mount(line: str, wanted: tuple[str, str, int | None]) -> None:
    (mount,) = mountinfo.parse(line + "\n")
    assert (mount.root, mount.fstype, mount.owner) == wanted


def test_mount_of_a_descriptor_is_found() -> None:
    """The mount of a descriptor has the device number that stat(2) has."""
    descriptor = os.open("/proc", os.O_PATH)
    try:
        mount = mountinfo.of_descriptor(descriptor)
    finally:
        os.close(descriptor)
    assert mount is not None
    assert (mount.fstype, mount.device_number) == ("proc", os.stat("/proc").st_dev)


def test_device_at_a_path_is_that_of_its_mount() -> None:
    """The quick search agrees with the parser."""
    mount = mountinfo.topmost("/proc")
    assert mount is not None
    assert mountinfo.device_at("/proc") == f"{mount.major}:{mount.connection}"
    assert mountinfo.device_at("/proc/there-is-no-such-mount") == ""
