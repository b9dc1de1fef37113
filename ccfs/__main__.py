# SPDX-License-Identifier: MIT
"""`python -m ccfs`: the command `ccfs`, and nothing more."""

import sys

from ccfs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
