"""`python -m ladder VERB`; the Makefile is the usual way in."""

from ladder.cli import main

main()
