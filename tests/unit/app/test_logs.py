"""What an application server writes, and what it tells the database: the request's id, and nobody's secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from wall import logs
from wall.database import Database

from tests.unit.app.fakes import SETTINGS, Tier, sqlite

ID = "29ac8eab-4e45-4c4e-a6f4-518f5a0b6143"


@pytest.fixture(autouse=True)
def _no_request() -> Iterator[None]:
    logs.begin(None)
    yield
    logs.begin(None)


def heard(engine: Engine) -> list[str]:
    """The statements as a driver gets them from now on."""
    found: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(statement)

    return found


def test_statements_of_a_request_begin_with_its_id_and_others_with_nothing() -> None:
    engine = sqlite()
    logs.comment_queries(engine)
    found = heard(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        logs.begin(ID)
        assert connection.scalar(text("SELECT :two"), {"two": 2}) == 2
    assert found == ["SELECT 1", f"/* {ID} */ SELECT ?"]


@pytest.mark.parametrize(
    "given", [None, "", "short", "x" * 65, "abcdefgh */ DROP TABLE", "abcdefg\n", "abcdefg%s", "ä" * 9]
)
def test_what_is_no_id_is_none(given: str | None) -> None:
    logs.begin(ID)
    logs.begin(given)
    assert logs.request_id.get() == ""


def test_every_statement_of_a_page_has_the_id_of_the_request(client: FlaskClient, tier: Tier) -> None:
    logs.comment_queries(tier.engine)
    found = heard(tier.engine)
    assert client.get("/", headers={"X-Request-ID": ID}).status_code == 200
    assert found
    assert all(re.match(rf"/\* {ID} \*/ SELECT ", statement) for statement in found)
    found.clear()
    client.get("/")
    assert found
    assert not any(ID in statement for statement in found)


def test_the_engines_of_the_site_comment_and_keep_values_out_of_errors() -> None:
    """A failing INSERT of an account would have its password's hash in the log."""
    database = Database.connect(SETTINGS)
    for engine in (*database._readers.values(), *database._writers.values()):
        assert engine.hide_parameters
        assert any("comment_queries" in handler.__qualname__ for handler in engine.dispatch.before_cursor_execute)
    hiding = create_engine("sqlite://", hide_parameters=True)
    with hiding.connect() as connection, pytest.raises(DBAPIError) as failed:
        connection.execute(text("INSERT INTO nowhere VALUES (:hash)"), {"hash": "$argon2id$s3cret"})
    assert "s3cret" not in str(failed.value)


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord("wall.test", logging.WARNING, __file__, 1, message, arguments, more.get("exc_info"))


def test_a_message_is_a_line_with_the_id_of_its_request() -> None:
    logs.begin(ID)
    said = logs.Json().format(record('two lines:\n"%s"', "ä"))
    assert "\n" not in said
    line = json.loads(said)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"level": "WARNING", "logger": "wall.test", "message": 'two lines:\n"ä"', "id": ID}


def test_an_exception_is_in_the_line_and_outside_of_a_request_there_is_no_id() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        said = logs.Json().format(record("failed", exc_info=sys.exc_info()))
    line = json.loads(said)
    assert line["trace"].endswith("ValueError: why")
    assert "id" not in line
