"""Reading and writing when nodes fail: who is tried, what is repeated, what never is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from wall import database as module
from wall.database import (
    Busy,
    Database,
    OutcomeUnknown,
    Unavailable,
    WritesHeld,
    nodes_used,
)
from wall.topology import NodeState, Snapshot

from tests.unit.app.fakes import PRIMARY, REPLICA, FakeTopology, sqlite

ONE = text("SELECT 1")


def lost(code: int = 2013) -> OperationalError:
    return OperationalError("SQL", {}, pymysql.err.OperationalError(code, "it broke"))


class Nodes:
    """An engine a node that fails as often as told, and a record of who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail: dict[str, list[Exception]] = {"db1": [], "db2": []}
        self.fail_commit: list[Exception] = []
        self.engines = {name: self._engine(name) for name in self.fail}
        self.topology = FakeTopology(PRIMARY, REPLICA)
        self.database = Database(self.topology, self.engines, self.engines)

    def _engine(self, name: str) -> Engine:
        engine = sqlite()

        @event.listens_for(engine, "before_cursor_execute")
        def ask(*_: Any) -> None:
            self.asked.append(name)
            if self.fail[name]:
                raise self.fail[name].pop(0)

        @event.listens_for(engine, "commit")
        def commit(_connection: Any) -> None:
            if self.fail_commit:
                raise self.fail_commit.pop(0)

        return engine


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def comes_back(nodes: Nodes, *states: NodeState) -> Callable[[str], None]:
    """The next probe after a failure finds these."""
    return lambda _name: nodes.topology.set(*states)


def work(connection: Connection) -> int:
    return int(connection.execute(ONE).scalar_one())


def test_reading_the_primary_never_means_a_replica(nodes: Nodes) -> None:
    assert nodes.database.read_primary(ONE)[0][0] == 1
    assert nodes.asked == ["db1"]
    nodes.topology.set(NodeState("db1"), REPLICA)
    with pytest.raises(WritesHeld):
        nodes.database.read_primary(ONE)


def test_others_wait_while_the_primary_is_under_suspicion(nodes: Nodes) -> None:
    nodes.topology.suspect("db1")
    threading.Timer(0.1, lambda: nodes.topology.set(PRIMARY)).start()
    assert nodes.database.write(work) == 1


def test_a_read_takes_the_replica_and_says_so(nodes: Nodes) -> None:
    nodes_used.set([])
    assert nodes.database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db2"]
    assert nodes_used.get() == ["db2"]


def test_a_failed_read_goes_to_the_next_node(nodes: Nodes) -> None:
    nodes.fail["db2"] = [lost()]
    assert nodes.database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db2", "db1"]
    assert nodes.topology.suspected == ["db2"]
    nodes.database.read(ONE)
    assert nodes.asked[-1] == "db1"  # the failed one stays out


def test_a_slow_query_goes_to_the_next_node_without_suspicion(nodes: Nodes) -> None:
    nodes.fail["db2"] = [lost(3024)]
    assert nodes.database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db2", "db1"]
    assert nodes.topology.suspected == []


def test_a_read_tries_two_nodes_at_most(nodes: Nodes) -> None:
    nodes.fail = {"db1": [lost()], "db2": [lost()]}
    with pytest.raises(Unavailable):
        nodes.database.read(ONE)
    assert nodes.asked == ["db2", "db1"]


def test_a_single_node_is_asked_again_once_it_answers(nodes: Nodes) -> None:
    nodes.topology.set(PRIMARY, NodeState("db2"))
    nodes.fail["db1"] = [lost()]  # a connection that died of old age, say
    nodes.topology.on_suspect = comes_back(nodes, PRIMARY)
    assert nodes.database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db1", "db1"]


def test_a_node_without_tables_is_passed_over(nodes: Nodes) -> None:
    error = pymysql.err.ProgrammingError(1146, "Table 'foobar.messages' doesn't exist")
    nodes.fail["db2"] = [ProgrammingError("SQL", {}, error)]
    assert nodes.database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db2", "db1"]


def test_our_own_mistakes_are_not_blamed_on_nodes(nodes: Nodes) -> None:
    error = pymysql.err.ProgrammingError(1064, "You have an error in your SQL syntax")
    nodes.fail["db2"] = [ProgrammingError("SQL", {}, error)]
    with pytest.raises(ProgrammingError):
        nodes.database.read(ONE)
    assert nodes.topology.suspected == []


def test_nothing_answers(nodes: Nodes) -> None:
    nodes.topology.set(NodeState("db1"), NodeState("db2"))
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        nodes.database.read(ONE)
    with pytest.raises(WritesHeld):
        nodes.database.write(work)
    assert time.monotonic() - begun < 0.5  # known to be so: no waiting


def test_a_write_takes_the_primary(nodes: Nodes) -> None:
    assert nodes.database.write(work) == 1
    assert nodes.asked == ["db1"]


def test_two_primaries_get_no_write(nodes: Nodes) -> None:
    nodes.topology.set(PRIMARY, replace(PRIMARY, name="db2"))
    with pytest.raises(WritesHeld):
        nodes.database.write(work)
    assert nodes.asked == []


@pytest.mark.parametrize("code", [2013, 2006, 1290, 1836])
def test_a_write_that_fails_before_commit_is_run_again_on_the_new_primary(nodes: Nodes, code: int) -> None:
    nodes.fail["db1"] = [lost(code)]
    nodes.topology.on_suspect = comes_back(nodes, replace(REPLICA, name="db1"), replace(PRIMARY, name="db2"))
    assert nodes.database.write(work) == 1
    assert nodes.asked == ["db1", "db2"]


def test_a_write_that_fails_while_no_primary_appears_is_held(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIND_NODE_WITHIN", 0.05)
    nodes.fail["db1"] = [lost()]
    with pytest.raises(WritesHeld):
        nodes.database.write(work)
    assert nodes.asked == ["db1"]


def handed_over(nodes: Nodes, after: float) -> None:
    """db1 answers that it is a replica now; db2 is the primary a moment later."""
    demoted = replace(REPLICA, name="db1", replicating=False)
    nodes.topology.on_suspect = comes_back(nodes, demoted, REPLICA)
    promoted = replace(PRIMARY, name="db2")
    threading.Timer(after, lambda: nodes.topology.set(demoted, promoted)).start()


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_write_waits_while_one_primary_hands_over_to_the_next(nodes: Nodes, repeatable: bool) -> None:
    """Also one that met the change at its COMMIT: a read-only node has stored nothing."""
    nodes.fail_commit = [lost(1290)]
    handed_over(nodes, after=0.3)
    assert nodes.database.write(work, repeatable=repeatable) == 1
    assert nodes.asked == ["db1", "db2"]


def test_a_write_that_was_held_up_by_a_closing_primary_is_run_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEAT_WRITE_WITHIN", -1)
    nodes.fail["db1"] = [lost(1290)]
    handed_over(nodes, after=0.1)
    assert nodes.database.write(work) == 1


def test_writes_do_not_wait_for_ever_for_the_next_primary(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wall.topology.HANDOVER_WITHIN", 0.2)
    nodes.fail["db1"] = [lost(1290)]
    handed_over(nodes, after=60)
    waits: list[float] = []
    wait = nodes.topology.wait

    def counted(enough: Callable[[Snapshot], bool], within: float) -> Snapshot:
        waits.append(within)
        return wait(enough, within)

    monkeypatch.setattr(nodes.topology, "wait", counted)
    begun = time.monotonic()
    for _ in range(3):  # only the first waits: a tier that needs a person must not keep all threads waiting
        with pytest.raises(WritesHeld):
            nodes.database.write(work)
    assert time.monotonic() - begun > 0.15
    assert len(waits) == 1


def test_the_pool_of_a_primary_that_was_relieved_is_discarded(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    discarded: list[str] = []
    for name, engine in nodes.engines.items():
        monkeypatch.setattr(engine, "dispose", lambda name=name: discarded.append(name))
    nodes.database.write(work)
    nodes.topology.set(replace(REPLICA, name="db1"), replace(PRIMARY, name="db2"))
    for _ in range(2):
        nodes.database.write(work)
    assert (nodes.asked, discarded) == (["db1", "db2", "db2"], ["db1"])


def test_a_write_that_was_slow_to_fail_is_not_run_again(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEAT_WRITE_WITHIN", -1)
    nodes.fail["db1"] = [lost()]
    nodes.topology.on_suspect = comes_back(nodes, PRIMARY)
    with pytest.raises(WritesHeld):
        nodes.database.write(work)
    assert nodes.asked == ["db1"]


def test_a_commit_that_broke_is_not_repeated(nodes: Nodes) -> None:
    nodes.fail_commit = [lost()]
    nodes.topology.on_suspect = comes_back(nodes, PRIMARY)
    with pytest.raises(OutcomeUnknown):
        nodes.database.write(work)
    assert nodes.asked == ["db1"]


def test_a_commit_that_broke_is_repeated_where_that_is_harmless(nodes: Nodes) -> None:
    nodes.fail_commit = [lost()]
    nodes.topology.on_suspect = comes_back(nodes, PRIMARY)
    assert nodes.database.write(work, repeatable=True) == 1
    assert nodes.asked == ["db1", "db1"]


def test_a_deadlock_is_tried_once_more_and_blames_nobody(nodes: Nodes) -> None:
    nodes.fail["db1"] = [lost(1213)]
    assert nodes.database.write(work) == 1
    nodes.fail["db1"] = [lost(1213), lost(1213)]
    with pytest.raises(Busy):
        nodes.database.write(work)
    assert nodes.topology.suspected == []


def test_a_lock_that_is_not_given_is_busy(nodes: Nodes) -> None:
    nodes.fail["db1"] = [lost(1205)]
    with pytest.raises(Busy):
        nodes.database.write(work)
    assert nodes.topology.suspected == []


def test_what_the_work_raises_rolls_back_and_passes(nodes: Nodes) -> None:
    def bad(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(IntegrityError):
        nodes.database.write(bad)
    with pytest.raises(LookupError):
        nodes.database.write(lambda _connection: (_ for _ in ()).throw(LookupError()))


def test_the_first_request_waits_for_the_first_answers(nodes: Nodes) -> None:
    late = FakeTopology(PRIMARY, REPLICA)
    with late._changed:
        late._asked.clear()
        late._states = {name: NodeState(name) for name in late._states}
        late._publish()
    database = Database(late, nodes.engines, nodes.engines)
    threading.Timer(0.1, lambda: late.set(PRIMARY, REPLICA)).start()
    assert database.read(ONE)[0][0] == 1
    assert nodes.asked == ["db2"]
