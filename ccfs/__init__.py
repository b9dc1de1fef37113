# SPDX-License-Identifier: MIT
"""ccfs: Kerberos credentials as a file system, one small server a user."""

__version__ = "0.1.0"
