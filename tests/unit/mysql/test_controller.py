"""The controller's rounds with a pretended server: what it does, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import node.controller
import pytest
from node.controller import CONTEST_ROUNDS, Controller
from node.decide import Down, Facts, Peer
from node.gtid import GtidSet
from node.peers import Peers
from node.server import Server, Volume
from node.settings import ACCOUNTS, Settings
from node.statements import Statement

NINE = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-9")
REPLICA = Facts(
    "db2", executed=NINE, source="db1", has_schema=True, receiving=True, connected=True,
    applying=True,
)  # fmt: skip
PRIMARY = Facts("db1", writable=True, locked=False, executed=NINE, has_schema=True)


@dataclass
class FakeServer:
    done: list[str] = field(default_factory=list)

    def execute(self, todo: Iterable[Statement], seconds: float = 0) -> None:
        del seconds
        self.done += [sql for sql, _ in todo]

    def restart_on_copy(self, source: str) -> None:
        self.done.append(f"restart on copy, follow {source or 'nobody'}")


@dataclass
class FakePeers:
    me: Peer
    others: list[Peer]

    def ask(self, name: str, host: str = "") -> Peer:
        del name, host
        return self.me

    def ask_all(self, names: tuple[str, ...]) -> list[Peer]:
        del names
        return self.others

    def forget(self, name: str) -> None:
        del name


@dataclass
class Node:
    controller: Controller
    server: FakeServer
    state: Path

    def round(self) -> str:
        """What one round leaves as the state."""
        self.server.done.clear()
        self.controller.round()
        return self.state.read_text().strip()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Node]:
    monkeypatch.setattr(node.controller, "STATE", tmp_path / "run" / "state")

    def build(me: Peer, *others: Peer) -> Node:
        settings = Settings(me.name, ("db1", "db2"), dict.fromkeys(ACCOUNTS, "secret"))
        server = FakeServer()
        controller = Controller(
            settings,
            Volume(tmp_path),
            cast("Server", server),
            cast("Peers", FakePeers(me, list(others))),
        )
        return Node(controller, server, tmp_path / "run" / "state")

    return build


def test_a_settled_primary_is_left_alone(make: Callable[..., Node]) -> None:
    node = make(PRIMARY, REPLICA)
    assert node.round().startswith("primary:")
    assert node.server.done == []


def test_a_settled_replica_is_left_alone(make: Callable[..., Node]) -> None:
    node = make(REPLICA, PRIMARY)
    assert node.round() == f"replica: of db1, from GTID {NINE}"
    assert node.server.done == []


def test_a_restarted_primary_opens_and_makes_no_transaction(make: Callable[..., Node]) -> None:
    node = make(replace(PRIMARY, writable=False, locked=True), Down("db2"))
    assert node.round().startswith("primary:")
    assert node.server.done[-1] == "SET GLOBAL read_only = OFF"
    assert not any("CREATE" in sql for sql in node.server.done)


def test_a_contested_primary_opens_only_after_some_rounds(make: Callable[..., Node]) -> None:
    node = make(replace(PRIMARY, writable=False), replace(PRIMARY, name="db2", writable=False))
    for _ in range(CONTEST_ROUNDS - 1):
        assert node.round().startswith("waiting:")
        assert node.server.done == []
    assert node.round().startswith("primary:")


def test_a_replica_opened_by_hand_is_closed(make: Callable[..., Node]) -> None:
    for opened in (replace(REPLICA, writable=True), replace(REPLICA, locked=False)):
        node = make(opened, PRIMARY)
        node.round()
        assert node.server.done == ["SET GLOBAL super_read_only = ON"]


def test_a_replica_that_is_not_connected_is_not_ready(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, connected=False, trouble="receiver error 1045"), PRIMARY)
    assert node.round() == "waiting: for db1 to send its binary log (receiver error 1045)"


def test_a_stopped_thread_is_started(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, applying=False), PRIMARY)
    node.round()
    assert node.server.done == ["START REPLICA USER = 'replication' PASSWORD = %s"]


def test_a_replica_without_primary_serves_and_only_applies(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, applying=False, receiving=False), Down("db1"))
    assert node.round() == "replica: its primary, db1, is down"
    assert node.server.done == ["START REPLICA SQL_THREAD"]


def test_what_is_discarded_is_logged(make: Callable[..., Node], capsys: pytest.CaptureFixture[str]) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    node = make(replace(REPLICA, executed=NINE | more), PRIMARY)
    node.round()
    assert "restart on copy, follow db1" in node.server.done
    assert f"discards 3 transactions, GTID {more}" in capsys.readouterr().err


def test_a_silent_mysqld_is_not_ready(make: Callable[..., Node]) -> None:
    assert make(Down("db1")).round().startswith("waiting:")


def test_a_state_is_logged_once(make: Callable[..., Node], capsys: pytest.CaptureFixture[str]) -> None:
    node = make(PRIMARY, REPLICA)
    for _ in range(3):
        node.round()
    assert capsys.readouterr().err.count("primary:") == 1
