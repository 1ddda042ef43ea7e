"""`python3 -m node`: process 1 of a database container. Read controller.py."""

import os
import socket
import sys

from node.controller import main

sys.exit(main(dict(os.environ), socket.gethostname()))
