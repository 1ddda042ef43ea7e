"""`python -m ladder VERB`; the Makefile is the usual way in."""

import signal
import sys

# Whoever ends a command wants undone what it was doing: by Ctrl-C, which a shell's & has ignored, or by `kill`.
for ending in (signal.SIGINT, signal.SIGTERM):
    signal.signal(ending, signal.default_int_handler)

try:
    from ladder.cli import main

    main()
except KeyboardInterrupt:  # while Python was still reading
    sys.exit(130)
