# SPDX-License-Identifier: MIT
"""Tests of what an exception may show."""
