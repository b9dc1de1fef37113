"""`ccfsd` that never gives up on a daemon: `python -m reliability.patient_ccfsd`."""

import sys

from ccfs.ccfsd import clearing
from ccfs.ccfsd.main import main

if __name__ == "__main__":
    clearing.PERIOD = 0.0
    sys.exit(main())
