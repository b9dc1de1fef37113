# SPDX-License-Identifier: MIT
"""What is compared: one row of PEERS for each, in the order of the tables.

Each starts and stops its own server; nothing here knows what is measured.
"""

from bench.peers import ccfs, files, kcm
from bench.peers.base import Peer

PEERS: tuple[Peer, ...] = (
    Peer("file", "FILE on tmpfs", files.file_on_tmpfs),
    Peer("dir", "DIR on tmpfs", files.dir_on_tmpfs),
    Peer("keyring", "KEYRING", files.keyring),
    Peer("sssd", "KCM, sssd", kcm.sssd),
    Peer("heimdal", "KCM, Heimdal", kcm.heimdal),
    Peer("plain-kcm", "KCM, plain Python", kcm.plain),
    Peer("plain-fuse", "FILE on plain pyfuse3", ccfs.plain_fuse),
    Peer("ccfs", "ccfs, FILE", ccfs.through_file),
    Peer("ccfs-default", "ccfs, FILE by default/", ccfs.through_default),
    Peer("ccfs-dir", "ccfs, DIR", ccfs.through_dir),
    Peer("ccfs-kcm", "ccfs, KCM", kcm.ccfs),
)

BY_KEY = {peer.key: peer for peer in PEERS}
CCFS = tuple(peer.key for peer in PEERS if peer.key.startswith("ccfs"))
