"""Who is who among the database nodes: one monitor thread a node asks, everybody reads the answer.

Nothing is known from names: a node is the primary because it says it may be written, a replica
because it says it replicates. A node that is paused or gone delays only its own monitor. What a
request learns by an error (`suspect`) counts at once, until the node has answered a newer probe.
"""
# mypy: disable-error-code="import-untyped"
# (PyMySQL has no type hints)

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pymysql
from pymysql.cursors import DictCursor

log = logging.getLogger(__name__)

PROBE_EVERY = 1.0  # seconds between two questions to the same node …
HANDOVER_EVERY = 0.1  # … and while all nodes answer and none is the primary: one is about to be
HANDOVER_WITHIN = 3.0  # seconds for that; beyond, it is no handover
CONNECT_TIMEOUT = 0.5
ANSWER_TIMEOUT = 1.0  # seconds for each answer; less takes a busy laptop for a dead node
MUCH_SLOWER = 0.2  # seconds by which a replica may answer later than the primary and still be read from


@dataclass(frozen=True)
class NodeState:
    """What one node said last. `seconds_behind` is None unless it is a replica that knows."""

    name: str
    answers: bool = False
    writable: bool = False
    replica: bool = False
    replicating: bool = False  # both threads run
    seconds_behind: int | None = None
    took: float = 0.0  # seconds until it had answered one question
    address: str | None = None  # spares requests the name look-up, which can hang when it is gone

    @property
    def role(self) -> str:
        """`primary`, `replica`, `read-only` (no replica yet, or no longer) or `down`."""
        if not self.answers:
            return "down"
        if self.writable:
            return "primary"
        return "replica" if self.replica else "read-only"


@dataclass(frozen=True)
class Snapshot:
    """The whole tier at one moment, already sorted into whom to read from and whom to write to."""

    nodes: tuple[NodeState, ...]
    settled: bool  # no answer is due: each node was asked, and again since it fell under suspicion
    writer: str | None
    fresh_replicas: tuple[str, ...]
    others: tuple[str, ...]  # the primary first, then anything that answers: stale beats nothing
    handover_until: float = 0.0  # by time.monotonic(): until then a new primary is awaited

    @classmethod
    def of(cls, nodes: Iterable[NodeState], *, max_lag: int, settled: bool = True) -> Snapshot:
        """Sort the nodes.

        A replica is fresh if both its threads run, it is at most `max_lag` seconds behind and
        answers about as quickly as the primary: one whose every answer is late would soon have
        every thread of ours waiting. On a busy machine all are slow, which is no reason.
        Two that call themselves writable mean no writer: better held than torn.
        """
        nodes = tuple(nodes)
        writable = [node.name for node in nodes if node.answers and node.writable]
        quickest = min((node.took for node in nodes if node.name in writable), default=math.inf)
        fresh = tuple(
            node.name
            for node in nodes
            if node.answers
            and not node.writable
            and node.replicating
            and node.seconds_behind is not None
            and node.seconds_behind <= max_lag
            and node.took <= quickest + MUCH_SLOWER
        )
        rest = [
            node.name
            for node in sorted(nodes, key=lambda n: (not n.writable, n.seconds_behind or 0))
            if node.answers and node.name not in fresh
        ]
        return cls(
            nodes=nodes,
            settled=settled,
            writer=writable[0] if len(writable) == 1 else None,
            fresh_replicas=fresh,
            others=tuple(rest),
        )

    def readers(self, *, newest: bool = False) -> tuple[str, ...]:
        """Nodes to read from, best first; `newest` prefers the primary to its replicas."""
        replicas = self.fresh_replicas
        if len(replicas) > 1:
            replicas = tuple(random.sample(replicas, len(replicas)))
        if newest and self.writer:
            return (self.writer, *replicas, *(n for n in self.others if n != self.writer))
        return replicas + self.others

    @property
    def handing_over(self) -> bool:
        """The primary gave its part up a moment ago and is well, as all others are: the next one is due."""
        calm = len(self.nodes) > 1 and all(node.answers and not node.writable for node in self.nodes)
        return calm and time.monotonic() < self.handover_until

    def node(self, name: str | None) -> NodeState | None:
        """The state of the node of this name, if there is one."""
        return next((node for node in self.nodes if node.name == name), None)


class Probe(Protocol):
    """Asks one node. Keeps its connection between calls; raises anything when it gets no answer."""

    def ask(self) -> NodeState:
        """What the node says of itself."""
        ...

    def close(self) -> None:
        """Forget the connection."""
        ...


class MySQLProbe:
    """Asks one MySQL node over a kept connection, as the user `monitoring`."""

    def __init__(self, name: str, port: int, password: str) -> None:
        self.name, self.port, self.password = name, port, password
        self._connection: Any = None
        self._address: str | None = None

    def ask(self) -> NodeState:
        """Two questions, each answered within ANSWER_TIMEOUT or this raises."""
        if self._connection is None:
            self._connection = pymysql.connect(
                host=self.name,
                port=self.port,
                user="monitoring",
                password=self.password,
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=ANSWER_TIMEOUT,
                write_timeout=ANSWER_TIMEOUT,
                autocommit=True,
                ssl_disabled=True,
                cursorclass=DictCursor,
            )
            self._address = self._connection._sock.getpeername()[0]
        with self._connection.cursor() as cursor:
            asked = time.monotonic()
            cursor.execute("SELECT @@global.read_only OR @@global.super_read_only AS read_only")
            writable = not cursor.fetchone()["read_only"]
            took = time.monotonic() - asked
            cursor.execute("SHOW REPLICA STATUS")
            status: dict[str, Any] = cursor.fetchone() or {}
        return NodeState(
            name=self.name,
            answers=True,
            writable=writable,
            replica=bool(status),
            replicating=bool(status) and status["Replica_IO_Running"] == status["Replica_SQL_Running"] == "Yes",
            seconds_behind=status.get("Seconds_Behind_Source"),
            took=took,
            address=self._address,
        )

    def close(self) -> None:
        """Forget the connection, so that the next question opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._force_close()  # close() would write to it


class Topology:
    """The latest `Snapshot`, kept by a daemon thread a node.

    Threads start with the first use, which is after Gunicorn's fork: a thread started in the
    master would not exist in the workers.
    """

    def __init__(self, probes: dict[str, Probe], *, max_lag: int) -> None:
        self._probes = probes
        self._max_lag = max_lag
        self._changed = threading.Condition()
        self._states = {name: NodeState(name) for name in probes}
        self._asked: set[str] = set()
        self._suspect_since: dict[str, float] = {}
        self._wake = {name: threading.Event() for name in probes}
        self._writer_until = -math.inf
        self._started = False
        self._stopped = False
        self.snapshot = Snapshot.of(self._states.values(), max_lag=max_lag, settled=False)

    def start(self) -> None:
        """Start the monitors, once; calling it again costs nothing."""
        if self._started:
            return
        with self._changed:
            if self._started:
                return
            self._started = True
        for name in self._probes:
            threading.Thread(target=self._monitor, args=(name,), name=f"monitor-{name}", daemon=True).start()

    def stop(self) -> None:
        """Let the monitors end; for tests, since a worker's die with it."""
        self._stopped = True
        for event in self._wake.values():
            event.set()

    def wait(self, enough: Callable[[Snapshot], bool], within: float) -> Snapshot:
        """The first snapshot that is `enough`, or the latest after `within` seconds."""
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: enough(self.snapshot), timeout=within)
            return self.snapshot

    def suspect(self, name: str) -> None:
        """A request got an error from this node: leave it out until it answers a newer probe.

        All of them are asked now, for an error is how a change of roles shows first.
        """
        with self._changed:
            self._suspect_since[name] = time.monotonic()
            self._asked.discard(name)
            self._states[name] = NodeState(name)
            self._publish()
        for event in self._wake.values():
            event.set()

    def _monitor(self, name: str) -> None:
        probe, wake = self._probes[name], self._wake[name]
        while not self._stopped:
            begun = time.monotonic()
            try:
                state = probe.ask()
            except Exception as error:
                probe.close()
                state = NodeState(name)
                if self._states[name].answers or name not in self._asked:
                    log.warning("database node %s does not answer: %s", name, error)
            self._learn(state, begun)
            wake.wait(HANDOVER_EVERY if self.snapshot.handing_over else PROBE_EVERY)
            wake.clear()

    def _learn(self, state: NodeState, begun: float) -> None:
        """Take in an answer, unless the node fell under suspicion after the question was put."""
        with self._changed:
            if self._suspect_since.get(state.name, 0.0) <= begun:
                self._asked.add(state.name)
                previous, self._states[state.name] = self._states[state.name], state
                if state.answers and previous.role != state.role:
                    log.info("database node %s is now %s", state.name, state.role)
            self._publish()

    def _publish(self) -> None:
        """Make the new snapshot visible and wake whoever waits for it. Called with the lock."""
        before = self.snapshot
        if before.writer:
            self._writer_until = time.monotonic()
        self.snapshot = replace(
            Snapshot.of(
                self._states.values(),
                max_lag=self._max_lag,
                settled=len(self._asked) == len(self._probes),
            ),
            handover_until=self._writer_until + HANDOVER_WITHIN,
        )
        if self.snapshot.handing_over and not before.handing_over:
            for event in self._wake.values():
                event.set()
        writable = [node.name for node in self.snapshot.nodes if node.writable]
        if len(writable) > 1 and writable != [n.name for n in before.nodes if n.writable]:
            log.critical("split brain: %s all accept writes; ours are refused", ", ".join(writable))
        self._changed.notify_all()
