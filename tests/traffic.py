"""Steady visitors for the tests that break more than a drill can say: the drill's own, watched while they visit."""

import time
import uuid
from dataclasses import replace
from pathlib import Path

from ladder.drills.checker import LATE, felt_by, told
from ladder.drills.drill import Plan, Visitors
from ladder.drills.record import KINDS, Begin, Record, Request
from ladder.drills.visitor import PATIENCE
from ladder.settings import Settings
from ladder.wait import wait_until

READS, WRITES = 20.0, 4.0
"""Requests a second."""
LATE_SHARE = 0.2
"""A machine that holds up more of the requests itself is too slow for any test."""
AFTER = 5.0
"""Seconds after which all is as before it stood still."""


class History(Record):
    """What has ended so far."""

    def bad(self, kind: str) -> list[Request]:
        """Those of a kind that were not answered as they should.

        Not what was under way when this machine stood still, or within some seconds of it: health checks were late then
        as well. The visitors know when that was, by their own requests, which left late.
        """
        late = [each for each in self.requests if each.sent - each.due > LATE]
        assert len(late) <= max(20, LATE_SHARE * len(self.requests)), f"{len(late)} left late: nothing can be said"
        return [
            each
            for each in self.of(kind, "failed", "unknown")
            if not any(one.due <= each.end and each.due <= one.sent + AFTER for one in late)
        ]

    def told(self, kind: str) -> str:
        """The same, for people."""
        return "\n".join(map(str, self.bad(kind)))

    def summary(self) -> str:
        """Both streams in words."""
        return "; ".join(told(felt_by(self, kind)) for kind in KINDS if self.of(kind))


class Traffic(Visitors):
    """Visitors of one address, from their making to `stop`."""

    def __init__(
        self, settings: Settings, token: str, folder: Path, *, reads: float = READS, writes: float = WRITES
    ) -> None:
        self.run = uuid.uuid4().hex[:12]
        self._began = time.monotonic()
        path = folder / f"{self.run}.jsonl"
        path.touch()
        super().__init__(settings, Plan((), reads=reads, writes=writes), self.run, token, path, self._began)
        for kind in self.kinds:
            self.recovers(kind, within=30)

    @property
    def kinds(self) -> list[str]:
        """What these visitors do."""
        return [kind for kind in KINDS if self.rates[kind]]

    def now(self) -> float:
        """Seconds since the beginning, as in the history."""
        return time.monotonic() - self._began

    def finish(self) -> History:
        """End when the requests under way have ended, and tell everything."""
        self.stop()
        return self.history()

    def history(self, since: float = 0.0) -> History:
        """What was due from a moment on and has ended."""
        begin = Begin(self.run, 0, "", self.rates["read"], self.rates["write"], PATIENCE, "")
        return History(begin, tuple(request for request in self.read() if request.due >= since))

    def more(self, kind: str, number: int) -> None:
        """Return when so many more requests of a kind were due and have ended."""
        now = self.now()
        within = number / self.rates[kind] + PATIENCE + 15
        wait_until(lambda: len(self.history(now).of(kind)) >= number, within=within, what=f"{number} more {kind}s")

    def recovers(self, kind: str, *, within: float) -> float:
        """Return when three successive requests, due from now on, were answered well; how long that took."""
        now = self.now()

        def well() -> bool:
            return [request.outcome for request in self.history(now).of(kind)[-3:]] == ["ok"] * 3

        wait_until(well, within=within, what=f"three successive {kind}s are answered", every=0.1)
        return self.now() - now

    def sees(self, *nodes: str, within: float) -> float:
        """Return when each of these nodes has had its part in an answer to a request due from now on; how long."""
        now = self.now()

        def all_seen() -> bool:
            answered = [request.served_by for request in self.history(now).of("read", "ok")]
            return all(any(node in served.split(", ") for served in answered) for node in nodes)

        wait_until(all_seen, within=within, what=f"{', '.join(nodes)} serve again", every=0.1)
        return self.now() - now


def at_port(settings: Settings, port: int) -> Settings:
    """The same stack, visited by another door."""
    return replace(settings, http_port=port)
