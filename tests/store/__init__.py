# SPDX-License-Identifier: MIT
"""Tests of the store: no mount, no clock."""
