"""The application on SQLite in memory, with database nodes whose roles a test can change.

Fixtures as in Flask's tutorial: app, client, runner. `tier` is the faked database tier.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from wall import accounts, create_app

from tests.unit.app.fakes import SETTINGS, Browser, Tier, join_api


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same argon2id with next to no work."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def tier() -> Tier:
    return Tier()


@pytest.fixture
def app(tier: Tier) -> Flask:
    app = create_app(SETTINGS, tier.database)
    app.config["TESTING"] = True
    app.config["PROPAGATE_EXCEPTIONS"] = False  # a bug is a 500 here as it is for a visitor
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


@pytest.fixture
def browser(client: FlaskClient) -> Browser:
    return Browser(client)


@pytest.fixture
def new_browser(app: Flask) -> Callable[[], Browser]:
    """More visitors."""
    return lambda: Browser(app.test_client())


@pytest.fixture
def token(client: FlaskClient) -> dict[str, str]:
    """The headers of an API caller named ada."""
    return join_api(client, "ada")
