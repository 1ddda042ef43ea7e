"""What stands in for the database tier and for visitors in the application's fast tests."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool
from wall.database import Database
from wall.migrate import upgrade
from wall.settings import Settings
from wall.topology import NodeState, Topology

PASSWORD = "correct horse battery"

SETTINGS = Settings(
    db_nodes=("db1", "db2"),
    app_password="app",
    monitoring_password="monitoring",
    session_key="0123456789abcdef0123456789abcdef",
    server_name="app1",
)

PRIMARY = NodeState("db1", answers=True, writable=True, address="10.0.0.1")
REPLICA = NodeState("db2", answers=True, replica=True, replicating=True, seconds_behind=0, address="10.0.0.2")


class FakeTopology(Topology):
    """A topology without threads: it knows what the test tells it."""

    def __init__(self, *nodes: NodeState, max_lag: int = 5) -> None:
        super().__init__({node.name: None for node in nodes}, max_lag=max_lag)  # type: ignore[misc]
        self.suspected: list[str] = []
        self.on_suspect: Callable[[str], None] = lambda _name: None
        self.set(*nodes)

    def start(self) -> None:
        """Nobody to start."""

    def set(self, *nodes: NodeState) -> None:
        """The tier is now like this."""
        with self._changed:
            self._states.update({node.name: node for node in nodes})
            self._asked = set(self._states)
            self._publish()

    def suspect(self, name: str) -> None:
        """As the real one; a test may say what the next probe finds."""
        self.suspected.append(name)
        super().suspect(name)
        self.on_suspect(name)


class Tier:
    """Two nodes over one SQLite database: `topology` says who is who, `engines` run the SQL."""

    def __init__(self) -> None:
        self.engine = sqlite()
        raw = self.engine.raw_connection()
        migrated().backup(raw.driver_connection)
        raw.close()
        self.topology = FakeTopology(PRIMARY, REPLICA)
        engines = {"db1": self.engine, "db2": self.engine}
        self.database = Database(self.topology, engines, engines)

    def no_primary(self) -> None:
        """The primary is gone; the replica still answers, though nothing comes to it any more."""
        self.topology.set(NodeState("db1"), replace(REPLICA, replicating=False))

    def nothing(self) -> None:
        """No node answers."""
        self.topology.set(NodeState("db1"), NodeState("db2"))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What is really stored."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]


def sqlite() -> Engine:
    """An empty database in memory, which enforces foreign keys as MySQL does."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def enforce(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


@cache
def migrated() -> sqlite3.Connection:
    """A database as the migration job leaves it, made once and copied for each test."""
    engine = sqlite()
    with engine.connect() as connection:
        upgrade(connection)
        connection.commit()
    raw: sqlite3.Connection = engine.raw_connection().driver_connection
    return raw


class Browser:
    """A visitor who fills in forms: sends back the hidden fields a page gave him."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def fields(self, url: str) -> dict[str, str]:
        """The hidden fields of the last form of the page at `url`."""
        html = self.client.get(url).text
        return {
            match["name"]: match["value"]
            for tag in re.findall(r'<input[^>]*type="hidden"[^>]*>', html)
            if (match := dict(re.findall(r'(name|value)="([^"]*)"', tag)))
        }

    def send(self, page: str, url: str | None = None, **fields: str) -> Any:
        """Open `page`, fill in its form, submit it."""
        return self.client.post(url or page, data={**self.fields(page), **fields})

    def join(self, name: str = "ada") -> Any:
        """Make an account; the browser is logged in afterwards."""
        return self.send("/register", name=name, password=PASSWORD)

    def say(self, body: str) -> Any:
        """Post a message."""
        return self.send("/", "/messages", body=body)


def join_api(client: FlaskClient, name: str) -> dict[str, str]:
    """Make an account by the API; the headers it then sends."""
    answer = client.post("/api/accounts", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json['token']}"}
