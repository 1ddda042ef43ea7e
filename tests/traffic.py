"""Steady visitors for the fault tests: reads and writes on a schedule, and the history of what became of each.

Open loop: a request is sent when it is due, however slow those before it are, and timed from that moment, so that a
stall is not hidden. Half of the requests open a connection, half take a kept one; reads ask for a page and the API
in turn. Every write has a text of its own and an Idempotency-Key, by which the checker knows it again.
"""

import http.client
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise

from ladder.wait import wait_until

READS, WRITES = 20.0, 4.0
"""Requests a second."""
PATIENCE = 15.0
"""Seconds until a visitor goes away; longer than any answer may take by the budget of timeouts."""
IDLE = 5.0
"""Seconds for which a connection is kept; every server keeps it longer, so a kept one is never a closed one."""


FAULTS = (("kill", "start"), ("pause", "unpause"), ("partition", "heal"))
"""Each fault of a node, and what undoes it."""


@dataclass(frozen=True)
class Request:
    """What became of one request. Times are seconds of the monotonic clock."""

    kind: str  # read or write
    due: float
    end: float
    outcome: str  # ok; failed: an answer, but not this; unknown: no answer
    status: int = 0
    served_by: str = ""
    text: str = ""  # of a write: the message, and its Idempotency-Key
    id: int = 0
    said: str = ""

    def __str__(self) -> str:
        took = f"{self.end - self.due:.2f} s"
        return f"{self.kind} {self.outcome} {self.status} in {took} by {self.served_by or '?'}: {self.said[:160]}"


@dataclass(frozen=True)
class History:
    """All requests, in the order in which they were due."""

    requests: tuple[Request, ...]

    def of(self, kind: str, *outcomes: str) -> list[Request]:
        """Those of a kind, and of some outcomes if any are given."""
        return [r for r in self.requests if r.kind == kind and (not outcomes or r.outcome in outcomes)]

    def bad(self, kind: str) -> list[Request]:
        """Those of a kind that were not answered as they should."""
        return self.of(kind, "failed", "unknown")

    def between(self, since: float, until: float) -> "History":
        """Those that were due in a span of time."""
        return History(tuple(request for request in self.requests if since <= request.due < until))

    def told(self, kind: str) -> str:
        """The same, for people."""
        return "\n".join(map(str, self.bad(kind)))

    def gap(self, kind: str) -> float:
        """The longest time between two successes, in seconds."""
        ends = sorted(r.end for r in self.of(kind, "ok"))
        return max((later - sooner for sooner, later in pairwise(ends)), default=float("inf"))

    def slowest(self, kind: str) -> float:
        """The longest that a success took, in seconds."""
        return max((r.end - r.due for r in self.of(kind, "ok")), default=float("inf"))

    def summary(self) -> str:
        """One line for people."""
        return "; ".join(
            f"{len(self.of(kind))} {kind}s, {len(self.bad(kind))} bad, longest gap {self.gap(kind):.2f} s, "
            f"slowest {self.slowest(kind):.2f} s"
            for kind in ("read", "write")
        )


def lost(history: History, stored: Iterable[tuple[int, str]]) -> list[Request]:
    """Acknowledged writes that are not stored under the id that was given for them."""
    there = set(stored)
    return [w for w in history.of("write", "ok") if (w.id, w.text) not in there]


def doubled(stored: Iterable[tuple[int, str]]) -> list[str]:
    """Texts that are stored more than once; each was one key, and was to be one message."""
    return [text for text, times in Counter(text for _, text in stored).items() if times > 1]


class Traffic:
    """Visitors of one address; from `start` to `stop`."""

    def __init__(self, address: str, port: int, token: str, *, reads: float = READS, writes: float = WRITES) -> None:
        self.run = uuid.uuid4().hex[:12]
        self._address, self._port, self._token = address, port, token
        self._rates = {"read": reads, "write": writes}
        self._done: list[Request] = []
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=400)
        self._clocks = [threading.Thread(target=self._keep_time, args=kind) for kind in self._rates.items()]

    def start(self) -> None:
        """Begin, and return when a few requests of each kind were answered."""
        for clock in self._clocks:
            clock.start()
        for kind, rate in self._rates.items():
            if rate:
                self.recovers(kind, within=30)

    def stop(self) -> History:
        """End when the requests under way have ended. Can be called again."""
        self._stop.set()
        for clock in self._clocks:
            clock.join()
        self._pool.shutdown()
        for connection, _ in self._idle:
            connection.close()
        return self.history()

    def history(self) -> History:
        """What has ended so far."""
        return History(tuple(sorted(self._done, key=lambda request: request.due)))

    def more(self, kind: str, number: int) -> None:
        """Return when so many more requests of a kind were due and have ended."""
        now = time.monotonic()
        within = number / self._rates[kind] + PATIENCE + 15
        wait_until(lambda: len(self._since(kind, now)) >= number, within=within, what=f"{number} more {kind}s")

    def recovers(self, kind: str, *, within: float) -> float:
        """Return when three successive requests, due from now on, were answered well; how long that took."""
        now = time.monotonic()

        def well() -> bool:
            last = self._since(kind, now)[-3:]
            return len(last) == 3 and all(request.outcome == "ok" for request in last)

        wait_until(well, within=within, what=f"three successive {kind}s are answered", every=0.1)
        return time.monotonic() - now

    def sees(self, *nodes: str, within: float) -> float:
        """Return when each of these nodes has had its part in an answer to a request due from now on; how long."""
        now = time.monotonic()

        def all_seen() -> bool:
            answered = [request.served_by for request in self._since("read", now) if request.outcome == "ok"]
            return all(any(node in served.split(", ") for served in answered) for node in nodes)

        wait_until(all_seen, within=within, what=f"{', '.join(nodes)} serve again", every=0.1)
        return time.monotonic() - now

    def _since(self, kind: str, moment: float) -> list[Request]:
        found = [r for r in list(self._done) if r.kind == kind and r.due >= moment]
        return sorted(found, key=lambda request: request.due)

    def _keep_time(self, kind: str, rate: float) -> None:
        begun = time.monotonic()
        for number in count() if rate else ():
            due = begun + number / rate
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._pool.submit(self._send, kind, number, due)

    def _send(self, kind: str, number: int, due: float) -> None:
        text = f"{self.run} {number}" if kind == "write" else ""
        served_by, status, outcome, found = "", 0, "unknown", 0
        connection = self._connection(kept=number // 2 % 2 == 0)
        try:
            if kind == "write":
                words = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
                body = json.dumps({"body": text})
                connection.request("POST", "/api/messages", body, {**words, "Idempotency-Key": f'"{text}"', **HOST})
            else:
                connection.request("GET", ("/", "/api/messages")[number % 2], headers=HOST)
            response = connection.getresponse()
            said = response.read().decode(errors="replace")
            status, served_by = response.status, response.headers.get("X-Served-By", "")
            found = json.loads(said)["id"] if (kind, status) == ("write", 201) else 0
            # An empty wall with status 200 would be a failure, too.
            whole = found > 0 if kind == "write" else '"body":' in said or "<article" in said
            outcome = "ok" if whole and status in (200, 201) else "failed"
            self._idle.append((connection, time.monotonic()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = repr(error)
            connection.close()
        self._done.append(Request(kind, due, time.monotonic(), outcome, status, served_by, text, found, said))

    def _connection(self, *, kept: bool) -> http.client.HTTPConnection:
        while kept and self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < IDLE:
                return connection
            connection.close()
        return http.client.HTTPConnection(self._address, self._port, timeout=PATIENCE)


HOST = {"Host": "www.foobar.com"}
