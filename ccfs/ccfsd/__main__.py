# SPDX-License-Identifier: MIT
"""`python -m ccfs.ccfsd`: the command `ccfsd`, and nothing more."""

import sys

from ccfs.ccfsd.main import main

if __name__ == "__main__":
    sys.exit(main())
