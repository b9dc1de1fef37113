# SPDX-License-Identifier: MIT
"""Tests of logins with real PAM, sshd and sudo; they need root."""
