# SPDX-License-Identifier: MIT
"""The table of what users and programs hold open over an upgrade; parked.py has who waits."""

from reliability.takeover import followers, locks, open_files, places
from reliability.takeover.closing import CHANGED
from reliability.takeover.holder import Maker

CONTAINER = "container"
HELD: dict[str, Maker] = {
    "reader": open_files.Reader,
    "reader of a file not read before": lambda mount: open_files.Reader(mount, 0),
    "reader of ids, in part": lambda mount: open_files.PartReader(mount, "caches/quiet/ids"),
    "reader of events, in part": lambda mount: open_files.PartReader(mount, "events"),
    "mapped ccache": open_files.Mapping,
    "superseded reader": open_files.SupersededReader,
    "writer, appends": open_files.Writer,
    "writer, half a record": open_files.TailWriter,
    "writer, half a scratch file": open_files.ScratchWriter,
    "writer, half a credential": open_files.CredentialWriter,
    "new, its answer not read yet": open_files.Transaction,
    "device and root": places.Device,
    "flock on lock": locks.Flock,
    "OFD lock on lock": lambda mount: locks.Lock(mount, "lock", locks.TO_WRITE),
    # a lock for reading: klist -l reads every ccache under one
    "OFD lock on ccache": lambda mount: locks.Lock(mount, "ccache", locks.TO_READ),
    "directory stream, not read": lambda mount: places.Directory(mount, 0),
    "directory stream, read in part": lambda mount: places.Directory(mount, 1),
    "shell in the mount": places.Shell,
    "tail -f events": followers.Tail,
    "cat changed": lambda mount: followers.Cat(mount, CHANGED),
    "inotify": followers.Watch,
    CONTAINER: places.Container,
}
