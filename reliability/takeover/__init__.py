# SPDX-License-Identifier: MIT
"""Kill the daemon under every kind of client: `python -m reliability.takeover`.

A daemon that takes over a live mount must not be noticed: no error is tolerated.  Processes of
their own change ccaches, run Kerberos programs, hold files open and measure pauses, each with a log
of its own on tmpfs; the program kills the daemon and reads the logs afterwards.
"""
