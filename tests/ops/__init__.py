# SPDX-License-Identifier: MIT
"""Tests of the file operations, called directly."""
