# SPDX-License-Identifier: MIT
"""What tests, reliability and bench share."""
