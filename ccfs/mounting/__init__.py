# SPDX-License-Identifier: MIT
"""The directory a mount stands on, mounting on it, and what is mounted there.

Knows mount(2), fusermount3, the kernel's mount table and locks of the directory; never what a mount
holds, nor the daemon that serves it.
"""
