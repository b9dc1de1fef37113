# SPDX-License-Identifier: MIT
"""Real Kerberos clients, and how tests run them: programs, places for their ccaches, output."""
