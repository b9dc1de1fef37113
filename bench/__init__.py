# SPDX-License-Identifier: MIT
"""The benchmark: ccfs, its peers, and what clients do with them, all in one run.

Nothing here is imported by ccfs.  `python -m bench --help` says how to run it, README.md what it
measures and what came out.
"""
