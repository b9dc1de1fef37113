# SPDX-License-Identifier: MIT
"""Tests of the benchmark: its samples, goals, tables, and a short run."""
