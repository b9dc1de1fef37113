"""`ccfs`, but its parent process never gives up on a daemon: `python -m reliability.patient mount`.

With a period of nothing no number of deaths is too many, and none makes the next start wait.
"""

import sys

from ccfs import supervisor
from ccfs.cli.main import main

if __name__ == "__main__":
    supervisor.PERIOD = 0.0
    sys.exit(main())
