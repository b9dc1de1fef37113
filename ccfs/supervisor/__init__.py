# SPDX-License-Identifier: MIT
"""The process that keeps one mount served: it replaces a daemon that dies, hangs or is outdated.

Knows processes, signals and descriptors; never FUSE's requests, nor what a daemon serves.
"""
