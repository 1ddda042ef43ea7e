"""Who is read from and written to, as nodes come, go, lag, disagree and change roles."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from wall.topology import NodeState, Snapshot, Topology

from tests.unit.app.fakes import PRIMARY, REPLICA

THIRD = replace(REPLICA, name="db3")


def snapshot(*nodes: NodeState) -> Snapshot:
    return Snapshot.of(nodes, max_lag=5)


def test_reads_from_the_replica_writes_to_the_primary() -> None:
    tier = snapshot(PRIMARY, REPLICA)
    assert tier.readers() == ("db2", "db1")
    assert tier.writer == "db1"


def test_names_mean_nothing() -> None:
    tier = snapshot(replace(REPLICA, name="db1"), replace(PRIMARY, name="db2"))
    assert (tier.readers()[0], tier.writer) == ("db1", "db2")


def test_newest_reads_from_the_primary_first() -> None:
    assert snapshot(PRIMARY, REPLICA).readers(newest=True) == ("db1", "db2")


def test_a_single_node_does_both() -> None:
    tier = snapshot(PRIMARY)
    assert (tier.readers(), tier.writer) == (("db1",), "db1")


@pytest.mark.parametrize(
    "replica",
    [
        replace(REPLICA, seconds_behind=6),
        replace(REPLICA, seconds_behind=None),
        replace(REPLICA, replicating=False),
        replace(REPLICA, took=0.3),
    ],
)
def test_a_replica_behind_broken_or_slow_is_the_last_choice(replica: NodeState) -> None:
    assert snapshot(PRIMARY, replica).readers() == ("db1", "db2")


def test_a_replica_at_the_limit_is_fresh() -> None:
    assert snapshot(PRIMARY, replace(REPLICA, seconds_behind=5)).readers()[0] == "db2"


def test_where_all_are_slow_no_replica_is_left_out() -> None:
    assert snapshot(replace(PRIMARY, took=0.3), replace(REPLICA, took=0.45)).readers()[0] == "db2"


def test_without_a_primary_a_slow_replica_is_as_good_as_any() -> None:
    assert snapshot(NodeState("db1"), replace(REPLICA, took=0.9)).fresh_replicas == ("db2",)


def test_stale_reads_beat_none() -> None:
    tier = snapshot(NodeState("db1"), replace(REPLICA, replicating=False))
    assert (tier.readers(), tier.writer) == (("db2",), None)


def test_two_primaries_are_none() -> None:
    tier = snapshot(PRIMARY, replace(PRIMARY, name="db2"))
    assert tier.writer is None
    assert set(tier.readers()) == {"db1", "db2"}


def test_load_is_shared_among_replicas() -> None:
    tier = snapshot(PRIMARY, REPLICA, THIRD)
    assert {tier.readers()[0] for _ in range(100)} == {"db2", "db3"}


@pytest.mark.parametrize(
    ("node", "role"),
    [
        (PRIMARY, "primary"),
        (REPLICA, "replica"),
        (NodeState("db1", answers=True), "read-only"),
        (NodeState("db1"), "down"),
    ],
)
def test_roles(node: NodeState, role: str) -> None:
    assert node.role == role


class FakeProbe:
    """Answers what it is told, when it is let."""

    def __init__(self, state: NodeState) -> None:
        self.state: NodeState | Exception = state
        self.free = threading.Event()
        self.free.set()
        self.asked = threading.Event()
        self.closed = 0

    def ask(self) -> NodeState:
        self.asked.set()
        self.free.wait(5)
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def probes() -> dict[str, FakeProbe]:
    return {"db1": FakeProbe(PRIMARY), "db2": FakeProbe(REPLICA)}


@pytest.fixture
def topology(probes: dict[str, FakeProbe]) -> Iterator[Topology]:
    topology = Topology(dict(probes), max_lag=5)
    yield topology
    for probe in probes.values():
        probe.free.set()
    topology.stop()


def test_asks_every_node(topology: Topology) -> None:
    tier = topology.wait(lambda s: s.settled, 20)
    assert (tier.writer, tier.fresh_replicas) == ("db1", ("db2",))


def test_a_paused_node_delays_no_other(topology: Topology, probes: dict[str, FakeProbe]) -> None:
    probes["db1"].free.clear()
    tier = topology.wait(lambda s: bool(s.fresh_replicas), 20)
    assert tier.readers() == ("db2",)
    assert not tier.settled


def test_a_suspect_is_out_until_it_answers_again(topology: Topology, probes: dict[str, FakeProbe]) -> None:
    topology.wait(lambda s: s.settled, 20)
    probes["db2"].state = OSError("gone")
    topology.suspect("db2")
    assert topology.snapshot.readers() == ("db1",)
    probes["db2"].asked.clear()
    assert probes["db2"].asked.wait(20)
    assert topology.snapshot.readers() == ("db1",)
    probes["db2"].state = REPLICA
    topology.suspect("db2")  # wakes its monitor
    assert topology.wait(lambda s: "db2" in s.readers(), 20).readers()[0] == "db2"
    assert probes["db2"].closed


def test_an_answer_older_than_the_suspicion_counts_for_nothing(
    topology: Topology, probes: dict[str, FakeProbe]
) -> None:
    topology.wait(lambda s: s.settled, 20)
    probes["db1"].free.clear()
    probes["db1"].asked.clear()
    assert probes["db1"].asked.wait(20)  # a question is under way,
    topology.suspect("db1")  # the node fails a request,
    probes["db1"].asked.clear()
    probes["db1"].state = replace(PRIMARY)
    answered = threading.Event()
    monitor_learns = topology._learn

    def learn(state: NodeState, begun: float) -> None:
        monitor_learns(state, begun)
        if state.name == "db1" and not answered.is_set():
            seen.append(topology.snapshot.writer)
            answered.set()

    seen: list[str | None] = []
    topology._learn = learn
    probes["db1"].free.set()  # and the old question is answered:
    assert answered.wait(20)
    assert seen == [None]
    assert topology.wait(lambda s: s.writer == "db1", 20).writer == "db1"  # the next one counts


def test_split_brain_is_logged(
    topology: Topology, probes: dict[str, FakeProbe], caplog: pytest.LogCaptureFixture
) -> None:
    probes["db2"].state = replace(PRIMARY, name="db2")
    tier = topology.wait(lambda s: s.settled, 20)
    assert tier.writer is None
    assert "split brain: db1, db2" in caplog.text


def test_a_handover_is_awaited_by_asking_often(
    topology: Topology, probes: dict[str, FakeProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wall.topology.PROBE_EVERY", 60.0)
    monkeypatch.setattr("wall.topology.HANDOVER_WITHIN", 60.0)
    topology.wait(lambda s: s.settled, 20)
    probes["db1"].state = replace(REPLICA, name="db1", replicating=False)
    topology.suspect("db1")
    assert topology.wait(lambda s: s.handing_over, 20).handing_over
    probes["db2"].state = replace(PRIMARY, name="db2")
    assert topology.wait(lambda s: s.writer == "db2", 20).writer == "db2"


def test_a_dead_primary_hands_nothing_over(topology: Topology, probes: dict[str, FakeProbe]) -> None:
    topology.wait(lambda s: s.settled, 20)
    probes["db1"].state = OSError("gone")
    topology.suspect("db1")
    tier = topology.wait(lambda s: s.settled and s.writer is None, 20)
    assert (tier.settled, tier.handing_over) == (True, False)


def test_one_node_has_nobody_to_hand_over_to() -> None:
    tier = replace(snapshot(NodeState("db1", answers=True)), handover_until=math.inf)
    assert not tier.handing_over
    both = replace(snapshot(NodeState("db1", answers=True), REPLICA), handover_until=math.inf)
    assert both.handing_over
