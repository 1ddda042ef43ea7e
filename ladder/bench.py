"""What each hop costs, in ratios: pages a second through the whole chain, over those of Gunicorn asked directly.

The load is wrk's, from a container of its own in the stack's networks; bounded in connections and time.
"""

from collections.abc import Callable, Iterator

from ladder.settings import Settings
from ladder.stages import Stage


def run(settings: Settings, stage: Stage, say: Callable[[str], None]) -> Iterator[str]:
    """Measure and yield the lines of the result."""
    raise NotImplementedError
