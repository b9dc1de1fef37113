# SPDX-License-Identifier: MIT
"""The file system as file systems are tested: fio with verification, stress-ng, and fsx's manner.

    python -m reliability.files [--seconds N] [--only fio|stress-ng|fsx]

All of it goes through a real mount: scratch files in a ccache's directory and in `caches/`, where
each directory that stress-ng makes for itself is a ccache, and reads of a ccache that is written
meanwhile.  What is left out, and why, is in EXCLUDED.  Needs fio and stress-ng (`apt install`).
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from tests.support import mounting
from tests.support.clients.python import records
from tests.support.fsx import Fsx
from tests.support.mounting import Mounted, mounts

OPTIONS = ("--max-ccaches", "4096", "--max-total-size", "256M")
"""stress-ng makes more files than anybody has ccaches."""

FIO = {
    "random reads and writes": "--rw=randrw --bs=4k --size=2M",
    "writes of every size": "--rw=write --bs=1k-64k --size=2M",
    "mapped": "--rw=randwrite --bs=512-8k --size=2M --ioengine=mmap",
    "asynchronous, past the page cache": "--rw=randrw --bs=4k --size=1M --ioengine=libaio"
    " --iodepth=8 --direct=1",
    "three at a time, across pages": "--rw=randrw --bs=3000 --size=1M --ioengine=psync --numjobs=3",
}
VERIFIED = "--verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0"
VERIFIED += " --fallocate=none --randseed=1 --unlink=1"
READS = "--readonly --randseed=1 --bs=1000 --size=20k --time_based"

STRESSORS = (
    "chattr chmod chown close dentry dirdeep dirmany dup fallocate fcntl file-ioctl filename "
    "flock fpunch fstat full getdent handle hdd inode-flags inotify iomix lease locka lockf "
    "lockofd mknod mmap mmapfixed mmapfork msync munmap open poll readahead rename revio seek "
    "sendfile splice sync-file tee touch"
)
"""stress-ng's that deal with files, directories, locks, mappings and inotify."""

EXCLUDED = {
    "access": "sets modes and reads them back; here chmod to anything but what is so is EPERM",
    "chdir": "makes directories in its directory; a ccache's directory has none of one's own",
    "dir": "the same",
    "symlink": "makes links in its directory; links are made in the root of the mount alone",
    "link": "makes hard links; every name here has its own file (stress-ng skips itself)",
    "fiemap": "asks where a file is on its disk; there is none (stress-ng skips itself)",
    "verity": "needs a file system with fs-verity (stress-ng skips itself)",
    "tmpfs": "looks for a tmpfs of its own, not for the mount",
    "utime": "sets times; here a file has the time of its last change (the present is accepted)",
    "xattr": "needs extended attributes; there are none (stress-ng skips itself)",
    "truncate": "is not in every stress-ng; fsx truncates in every way",
    "unlink": "is not in every stress-ng; `dentry`, `open` and `rename` unlink",
    "copy-file": "its smallest file is 128 MiB, and a file's limit here 8",
    "fanotify": "marks every mount of the machine, not ours alone",
    "fio, mapped, on a ccache that changes": "an open that meets superseded bytes is served past"
    " the page cache; the kernel maps such a file privately alone (ENODEV for a shared mapping)",
    "io": "is sync(2), of every file system of the machine",
}

BOUNDS = "--hdd-bytes 1M --iomix-bytes 1M --fallocate-bytes 1M --mmap-bytes 1M --seek-size 1M"
BOUNDS += " --readahead-bytes 1M --revio-bytes 1M --sync-file-bytes 1M --sendfile-size 64K"
BOUNDS += " --msync-bytes 1M"


def tool(name: str) -> str:
    """The path of a program; SystemExit with what to do where there is none."""
    found = shutil.which(name)
    if found is None:
        sys.exit(f"files: no {name}: apt install {name}")
    return found


def call(seconds: float, *command: str) -> str:
    """Run a command with a bound; what it prints.  AssertionError where it fails."""
    done = subprocess.run(
        ["timeout", "-s", "KILL", str(seconds), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}: {said[-2000:]}"
    return said


def fio(mounted: Mounted, seconds: int) -> None:
    """Everything that is written is read back and checked."""
    place = f"--directory={mounted.path}/caches/tkt"
    for name, job in FIO.items():
        began, runs = time.monotonic(), 0
        while not runs or time.monotonic() - began < seconds:
            call(120, tool("fio"), "--name=file", place, *VERIFIED.split(), *job.split())
            runs += 1
        print(f"fio, {name}: {runs} runs verified", flush=True)


def fio_on_a_ccache(mounted: Mounted, seconds: int) -> None:
    """Reads of a ccache: mapped, then plain while credentials are stored in it and removed."""
    path = mounted.path / "caches/tkt/ccache"
    path.write_bytes(records.ccache([f"host/{number}" for number in range(60)]))
    job = ["--name=ccache", f"--filename={path}", "--rw=randread", *READS.split()]
    job.append(f"--runtime={max(seconds, 1)}")
    call(seconds + 60, tool("fio"), *job, "--ioengine=mmap")
    over = threading.Event()
    rounds: list[int] = []
    writer = threading.Thread(target=lambda: rounds.append(store_and_remove(mounted, over)))
    writer.start()
    try:
        call(seconds + 60, tool("fio"), *job, "--ioengine=psync")
    finally:
        over.set()
        writer.join()
    assert len(records.servers_in(path.read_bytes(), removed=True)) == 60
    print(f"fio, reads of a ccache: no error in {rounds[0]} changes", flush=True)


def store_and_remove(mounted: Mounted, over: threading.Event) -> int:
    """Store a credential and remove it until it is `over`; returns how often."""
    directory = mounted.path / "caches/tkt/credentials"
    number = 0
    while not over.is_set():
        (directory / "new").write_bytes(records.record(f"new/{number}"))
        (directory / f"new%2F{number}@KRBTEST.COM").unlink()
        number += 1
    return number


def stress(mounted: Mounted, seconds: int, stressors: list[str]) -> None:
    """Each stressor for some seconds; what it leaves is removed, as its user would."""
    place = ["--temp-path", f"{mounted.path}/caches", *BOUNDS.split()]
    for name in stressors:
        command = [f"--{name}", "1", "--timeout", str(max(seconds, 1)), "--verify", *place]
        call(seconds + 60, tool("stress-ng"), *command)
        for left in set(os.listdir(mounted.path / "caches")) - {"tkt"}:
            shutil.rmtree(mounted.path / "caches" / left)
    print(f"stress-ng: {len(stressors)} stressors, {seconds} s each, no failure", flush=True)


def fsx(mounted: Mounted, seconds: int) -> None:
    """Runs of 1,000 steps each."""
    began, runs = time.monotonic(), 0
    while not runs or time.monotonic() - began < seconds:
        path = mounted.path / "dir/scratch"
        Fsx(path, random.Random(runs), mapped=True).run(1000)
        path.unlink()
        runs += 1
    print(f"fsx: {runs * 1000} steps, no difference", flush=True)


def check_end(mounted: Mounted) -> None:
    """The mount is as good as new."""
    assert mounted.complaints() == [], mounted.complaints()
    (mounted.path / "caches/fresh").mkdir()
    used = set(os.listdir(mounted.path / "caches/tkt"))
    fresh = set(os.listdir(mounted.path / "caches/fresh"))
    assert used - fresh <= {"ccache"}, used - fresh


PARTS = {
    "fio": lambda mounted, seconds: (fio(mounted, seconds), fio_on_a_ccache(mounted, seconds)),
    "stress-ng": lambda mounted, seconds: stress(mounted, seconds, STRESSORS.split()),
    "fsx": fsx,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="for each job and stressor")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    mounting.GUARD_SECONDS = 24 * 3600.0
    with mounts() as maker:
        mounted = maker.make(*OPTIONS)
        for name in [given.only] if given.only else PARTS:
            PARTS[name](mounted, given.seconds)
        check_end(mounted)


if __name__ == "__main__":
    main()
