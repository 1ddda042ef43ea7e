"""What an application server counts of itself. That it is right across workers is proven on a running stage."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from sqlalchemy import text
from wall import metrics

from tests.unit.app.fakes import Tier, sqlite

COUNT = "wall_http_request_duration_seconds_count"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def requests(route: str, method: str = "GET", status: str = "2xx") -> float:
    return value(COUNT, route=route, method=method, status=status)


def test_a_request_counts_by_its_route_and_not_by_its_path(client: FlaskClient) -> None:
    pages, others = requests("/"), requests("none", status="4xx")
    client.get("/")
    client.get("/?before=1")
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    assert requests("/") == pages + 2
    assert requests("none", status="4xx") == others + 2


def test_health_checks_are_not_counted(client: FlaskClient) -> None:
    def all_of_them() -> float:
        return sum(s.value for m in REGISTRY.collect() for s in m.samples if s.name == COUNT)

    before = all_of_them()
    assert client.get("/healthz").status_code == 200
    assert all_of_them() == before


def test_an_error_is_counted_as_what_the_visitor_got(client: FlaskClient, tier: Tier) -> None:
    before = requests("/", status="5xx")
    tier.nothing()
    assert client.get("/").status_code == 503
    assert requests("/", status="5xx") == before + 1


def test_a_method_that_nobody_knows_makes_no_series_of_its_own(client: FlaskClient) -> None:
    before = requests("none", "other", "4xx")
    client.open("/", method="BREW")
    assert requests("none", "other", "4xx") == before + 1


def test_nothing_is_in_progress_afterwards(client: FlaskClient) -> None:
    client.get("/")
    assert value("wall_http_requests_in_progress") == 0


@pytest.mark.parametrize(("port", "shown"), [("8001", True), ("8000", False), ("80", False)])
def test_the_figures_are_on_their_own_port_alone(client: FlaskClient, port: str, shown: bool) -> None:
    """Whatever the path; and a visitor chooses no port: it is that of the socket which he came by."""
    for path in ("/metrics", "/"):
        said = client.get(path, environ_overrides={"SERVER_PORT": port}, headers={"Host": "www.foobar.com:8001"})
        assert (COUNT in said.text) == shown


def test_statements_are_counted_by_node_as_reads_and_writes(app: Flask) -> None:
    engine = sqlite()
    metrics.count_queries(engine, "db7")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE x (y INTEGER)"))
        connection.execute(text("INSERT INTO x VALUES (1)"))
        connection.execute(text("UPDATE x SET y = 2"))
        connection.execute(text("DELETE FROM x"))
        connection.execute(text("  select * from x"))
        connection.execute(text("/* 29ac8eab-4e45 */ SELECT * FROM x"))
    name = "wall_database_queries_total"
    assert value(name, database="db7", operation="write") == 3
    assert value(name, database="db7", operation="read") == 2
