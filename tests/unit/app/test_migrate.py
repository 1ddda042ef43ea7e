"""The migration job: steps that give exactly the tables of models.py, and finding the primary."""

from __future__ import annotations

import logging

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
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
