# SPDX-License-Identifier: MIT
"""What outlives a daemon, so that the next one can go on with the same mount.

The FUSE connection, the handover page, the connections of KCM clients, the fork server, the
notifier, and the policy of restarts.  Knows descriptors and processes; never the store.
"""
