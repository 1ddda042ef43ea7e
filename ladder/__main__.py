"""`python -m ladder VERB`; the Makefile is the usual way in."""

import sys

try:
    from ladder.cli import main

    main()
except KeyboardInterrupt:  # while Python was still reading
    sys.exit(130)
