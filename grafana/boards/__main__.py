"""Prints every board as Grafana's JSON, by uid."""

import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.boards import boards

built = boards()
assert len({board.uid for board in built}) == len(built), "two boards have the same uid"
sys.stdout.write(JSONEncoder(sort_keys=True).encode({board.uid: board for board in built}))
