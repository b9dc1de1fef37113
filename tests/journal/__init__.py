# SPDX-License-Identifier: MIT
"""Tests of the journal: what a killed daemon leaves, and what the next one loads."""
