# SPDX-License-Identifier: MIT
"""Tests of the commands and of what they print."""
