# SPDX-License-Identifier: MIT
"""What is done to the peers and measured; a module for each part of the benchmark."""
