# SPDX-License-Identifier: MIT
"""Tests of a real mount with real Kerberos programs."""
