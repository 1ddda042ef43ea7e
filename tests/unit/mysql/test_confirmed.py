"""Going on alone: when, and never before word of it is on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pymysql
import pytest
from node.confirmed import ALONE_AFTER, LOOK_SECONDS, Confirmation
from node.orders import Orders
from node.server import Server
from node.statements import Statement

LOOKS = int(ALONE_AFTER / LOOK_SECONDS)


@dataclass
class FakeServer:
    """A primary as it counts its confirmations."""

    note: Path
    clients: int = 1
    waiting: int = 0
    confirmed: int = 9
    on: bool = True
    waits: bool = True
    away: bool = False
    logins: int = 0
    noted_first: list[bool] = field(default_factory=list)

    def connect(self, seconds: float) -> FakeServer:
        del seconds
        self.logins += 1
        return self

    def cursor(self) -> AbstractContextManager[SimpleNamespace]:
        return nullcontext(SimpleNamespace(execute=self.ask, fetchall=self.rows))

    def ask(self, sql: str) -> None:
        del sql
        if self.away:
            raise pymysql.err.OperationalError(2013, "Lost connection")

    def rows(self) -> list[tuple[str, str]]:
        figures: dict[str, object] = {"clients": self.clients, "wait_sessions": self.waiting, "yes_tx": self.confirmed}
        figures |= {"status": "ON" if self.on else "OFF", "waits": "ON" if self.waits else "OFF"}
        return [(f"Rpl_semi_sync_source_{name}", str(figure)) for name, figure in figures.items()]

    def execute(self, todo: Iterable[Statement]) -> None:
        for sql, _ in todo:
            name, _, value = sql.removeprefix("SET GLOBAL rpl_semi_sync_source_").partition(" = ")
            if value == "OFF":
                self.noted_first.append(self.note.exists())
                self.on = self.on and name != "enabled" and self.clients > 0
            if name == "wait_no_replica":
                self.waits = value == "ON"


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    return FakeServer(tmp_path / "alone")


@pytest.fixture
def confirmation(server: FakeServer, tmp_path: Path) -> Confirmation:
    return Confirmation(cast("Server", server), Orders(tmp_path))


def test_without_a_replica_it_goes_on_at_once_and_the_note_is_first(
    server: FakeServer, confirmation: Confirmation
) -> None:
    server.clients = 0
    confirmation.look()
    assert server.noted_first == [True]
    confirmation.look()
    assert server.noted_first == [True], "it is switched off once"


def test_a_commit_waits_two_seconds_for_a_replica_that_is_silent(
    server: FakeServer, confirmation: Confirmation
) -> None:
    confirmation.look()
    server.waiting = 3
    for _ in range(LOOKS - 1):
        confirmation.look()
    assert server.on
    confirmation.look()
    assert (server.noted_first, server.on) == ([True], False)


def test_what_mysqld_begins_again_by_itself_is_settled_once_it_waits_whoever_is_connected(
    server: FakeServer, confirmation: Confirmation
) -> None:
    confirmation.note()
    server.waits = False
    confirmation.settle()
    assert (server.waits, server.note.exists()) == (True, True)
    confirmation.settle()
    assert not server.note.exists()


def test_a_replica_that_confirms_is_not_silent_however_many_wait(
    server: FakeServer, confirmation: Confirmation
) -> None:
    server.waiting = 3
    for _ in range(5 * LOOKS):
        server.confirmed += 1
        confirmation.look()
    server.waiting = 0
    for _ in range(5 * LOOKS):
        confirmation.look()
    assert server.on
    assert not server.note.exists()


def test_a_replica_and_one_that_is_alone_already_are_left_alone(server: FakeServer, confirmation: Confirmation) -> None:
    server.on, server.clients, server.waiting = False, 0, 3
    for _ in range(2 * LOOKS):
        confirmation.look()
    assert server.noted_first == []


def test_what_can_not_be_noted_is_not_done(
    server: FakeServer, confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Orders, alone: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Orders, "note_alone", full)
    server.clients = 0
    with pytest.raises(OSError, match="No space"):
        confirmation.look()
    assert server.on


def test_a_server_that_was_away_is_asked_on_a_new_connection(server: FakeServer, confirmation: Confirmation) -> None:
    confirmation.look()
    server.away = True
    with pytest.raises(pymysql.MySQLError):
        confirmation.look()
    server.away = False
    confirmation.look()
    confirmation.look()
    assert server.logins == 2
