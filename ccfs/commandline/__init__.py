# SPDX-License-Identifier: MIT
"""What the programs ccfs, ccfsd and mount.ccfs share: argument parser and messages on stderr.

Knows words as a user types and reads them; never what a program does.
"""
