# SPDX-License-Identifier: MIT
"""Tests of the system calls that Python lacks."""
