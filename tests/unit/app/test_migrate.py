"""The migration job: steps that give exactly the tables of models.py, and finding the primary."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import OperationalError
from wall import migrate
from wall.models import accounts, messages, metadata
from wall.settings import MigrationSettings

from tests.unit.app.fakes import sqlite

SETTINGS = MigrationSettings(db_nodes=("db1", "db2"), password="x")


def test_steps_lead_to_the_models() -> None:
    engine = sqlite()
    with engine.connect() as connection:
        migrate.upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_again_changes_nothing() -> None:
    engine = sqlite()
    for _ in range(2):
        with engine.connect() as connection:
            migrate.upgrade(connection)
            connection.commit()
            assert connection.scalar(select(func.count()).select_from(messages)) == 5
            assert connection.scalar(select(func.count()).select_from(accounts)) == 1


def test_a_run_that_died_halfway_is_finished() -> None:
    engine = sqlite()
    with engine.connect() as connection:
        accounts.create(connection)  # MySQL commits each CREATE TABLE by itself
        connection.commit()
        migrate.upgrade(connection)
        assert connection.scalar(select(func.count()).select_from(messages)) == 5


def test_the_schema_of_a_later_version_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A version that was taken back leaves its step behind; the old one's job is run by the next `make up`."""
    caplog.set_level(logging.INFO)
    engine = sqlite()
    with engine.connect() as connection:
        migrate.upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
        connection.commit()
        migrate.upgrade(connection)
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "later"
    assert "of a later version (step later)" in caplog.text


class Database:
    """An engine and its connection, which takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def connect(self) -> Iterator[Database]:
        yield self

    def scalar(self, statement: object) -> int:
        self.told.append(str(statement))
        return 1

    def execute(self, statement: object) -> None:
        self.told.append(str(statement))

    def rollback(self) -> None:
        self.told.append("rollback")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(migrate, "find_primary", lambda _: found)
    monkeypatch.setattr(migrate, "TABLE_PAUSE", 0.0)
    return found


def in_use(monkeypatch: pytest.MonkeyPatch, database: Database, tries: int, number: int = 1205) -> None:
    """So many tries meet a table that is in use, or another error."""

    def upgrade(_connection: Connection) -> None:
        database.told.append("upgrade")
        if database.told.count("upgrade") <= tries:
            raise OperationalError("ALTER TABLE", {}, Exception(number, "Lock wait timeout exceeded"))

    monkeypatch.setattr(migrate, "upgrade", upgrade)


def test_a_step_waits_a_second_for_a_table_and_tries_again(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    in_use(monkeypatch, database, 2)
    migrate.migrate(SETTINGS)
    assert database.told == [
        "SELECT GET_LOCK('wall.migrate', 60)",
        "SET SESSION lock_wait_timeout = 1",
        *("rollback", "upgrade", "rollback", "upgrade", "rollback", "upgrade"),
    ]


def test_a_table_that_is_always_in_use_is_a_sentence(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    in_use(monkeypatch, database, 1000)
    with pytest.raises(migrate.MigrationError, match="in use at each of 20 tries"):
        migrate.migrate(SETTINGS)
    assert database.told.count("upgrade") == 20


def test_any_other_error_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    in_use(monkeypatch, database, 1, number=1060)
    with pytest.raises(OperationalError):
        migrate.migrate(SETTINGS)
    assert database.told.count("upgrade") == 1


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: dict[str, str]) -> None:
    """What the nodes say when asked, round after round, the last one for ever."""
    turn = {"db1": 0, "db2": 0}
    monkeypatch.setattr(migrate, "_engine", lambda _settings, name: name)

    def ask(name: str) -> str:
        said = rounds[min(turn[name], len(rounds) - 1)][name]
        turn[name] += 1
        return said

    monkeypatch.setattr(migrate, "_ask", ask)
    monkeypatch.setattr(migrate, "ASK_EVERY", 0.001)


def test_waits_for_the_primary_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers(
        monkeypatch,
        {"db1": "refused", "db2": "refused"},
        {"db1": "read-only", "db2": "refused"},
        {"db1": "read-only", "db2": "accepts writes"},
    )
    assert str(migrate.find_primary(SETTINGS)) == "db2"
    assert "db1: read-only; db2: refused" in caplog.text
    assert "db2 is the primary" in caplog.text


@pytest.mark.parametrize("said", ["read-only", "accepts writes"])
def test_gives_up_with_a_sentence(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    answers(monkeypatch, {"db1": said, "db2": said})
    with pytest.raises(migrate.MigrationError, match=f"db1: {said}; db2: {said}"):
        migrate.find_primary(SETTINGS, within=0.01)


def test_bad_settings_are_a_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.environ", {"SECRETS_DIR": "/nowhere"})
    monkeypatch.delenv("DB_NODES", raising=False)
    monkeypatch.setattr(
        migrate, "read_migration_settings", lambda: __import__("wall.settings").settings.read_migration_settings({})
    )
    assert migrate.main() == 1
    assert "DB_NODES is missing" in caplog.text
