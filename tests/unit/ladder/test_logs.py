"""One request's lines: which are its own, when each layer began, and in what order they are shown."""

import json

import pytest
from rich.console import Console

from ladder import logs, settings
from ladder.errors import UserError
from ladder.logs import Step, complete, follow, ordered, parse, parse_statements, plain, table

ID = "29ac8eab-4e45-4c4e-a6f4-518f5a0b6143"
HAPROXY = {
    "time": "2026-11-21T15:00:00.020Z",
    "id": ID,
    "method": "POST",
    "uri": "/messages",
    "status": 303,
    "upstream": "web1",
    "retries": 0,
    "total_ms": 20,
}
NGINX = {
    "time": "2026-11-21T15:00:00.019Z",
    "id": ID,
    "method": "POST",
    "uri": "/messages",
    "status": 303,
    "seconds": 0.018,
    "upstream": "10.80.2.130:8000",
}
GUNICORN = {
    "time": "2026-11-21T15:00:00.018Z",
    "id": ID,
    "method": "POST",
    "uri": "/messages",
    "status": 303,
    "ms": 16.5,
}
WARNING = {"time": "2026-11-21T15:00:00.010Z", "level": "WARNING", "message": "database node db1 failed", "id": ID}
BEGUN = 1795273200.0
"""2026-11-21 15:00:00 UTC."""


def line(server: str, said: dict[str, object]) -> str:
    return f"2026-11-21T15:00:00.020123Z {server} {json.dumps(said)}"


def steps() -> list[Step]:
    """The layers, the innermost first."""
    said = [line("app1", WARNING), line("app1", GUNICORN), line("web1", NGINX), line("lb1", HAPROXY)]
    return [*statements(), *parse(ID, said)]


def statements() -> list[Step]:
    fields = {"begun": BEGUN + 0.005, "took": 0.0004, "digest": "INSERT INTO `messages` ( `body` ) VALUES (...)"}
    return [*parse_statements("db1", json.dumps(fields | {"rows": 1, "errno": 0}) + "\n")]


def test_every_layer_is_read_whatever_it_calls_its_time() -> None:
    found = {step.layer: step for step in steps() if step.took is not None}
    assert [*found] == ["database", "application", "web", "balancer"]
    assert found["balancer"] == Step(pytest.approx(BEGUN), 0.02, "lb1", "POST /messages 303 → web1")
    assert found["web"] == Step(pytest.approx(BEGUN + 0.001), 0.018, "web1", "POST /messages 303 → 10.80.2.130:8000")
    assert found["application"] == Step(pytest.approx(BEGUN + 0.0015), 0.0165, "app1", "POST /messages 303")


def test_the_order_is_that_of_time_and_of_the_layers_within_a_millisecond() -> None:
    found = ordered(steps())
    assert [step.layer for step in found] == ["balancer", "web", "application", "database", "application"]
    assert found[-1].what == "WARNING database node db1 failed"


def test_a_web_server_that_is_asked_again_later_stays_later() -> None:
    """The inner layers of the first attempt come before the second attempt."""
    second = [Step(step.begun + 1, step.took, "web2", step.what) for step in steps() if step.layer == "web"]
    assert [step.server for step in ordered([*second, *steps()])] == ["lb1", "web1", "app1", "db1", "app1", "web2"]


@pytest.mark.parametrize(
    "said",
    [
        line("lb1", HAPROXY | {"id": "another-request"}),
        line("lb1", HAPROXY | {"id": "another-request", "uri": f"/?q={ID}"}),
        f"2026-11-21T15:00:00.020123Z web1 a plain line that mentions {ID}",
        f'2026-11-21T15:00:00.020123Z web1 "{ID}"',
        f"2026-11-21T15:00:00.020123Z web1 {ID[:8]}",
        "",
        "\n",
    ],
)
def test_lines_of_others_are_left_out(said: str) -> None:
    assert not [*parse(ID, [said])]


def test_what_a_database_tells_is_readable_and_says_what_failed() -> None:
    (step,) = statements()
    assert step.what == "INSERT INTO messages (body) VALUES (...): 1 row"
    failed = {"begun": 1.0, "took": 0.1, "digest": "SELECT ?", "rows": 0, "errno": 1062}
    assert [step.what for step in parse_statements("db1", json.dumps(failed))] == ["SELECT ?: error 1062"]
    assert plain("SELECT `a` . `b` , NOW ( ) FROM `a`") == "SELECT a.b, NOW () FROM a"


def test_nginx_is_waited_for_unless_nobody_asked_it() -> None:
    balancer = [*parse(ID, [line("lb1", HAPROXY)])]
    assert not complete([])
    assert not complete(balancer)
    assert complete(steps())
    assert complete(parse(ID, [line("lb1", HAPROXY | {"upstream": logs.NOBODY, "status": 308})]))


def test_the_table_says_who_did_not_answer_and_shows_no_control_characters() -> None:
    console = Console(width=200, record=True)
    visitors = Step(BEGUN, 0.02, "lb1", "GET /[red]\x1b[31m 200")
    console.print(table(ID, [visitors, *statements()], ["db2"]))
    said = console.export_text()
    assert f"request {ID}, 2026-11-21 15:00:00 UTC" in said
    assert "│ 0.0 ms │ 20.0 ms │ balancer │ lb1    │ GET /[red].[31m 200" in said
    assert "no answer: db2" in said


@pytest.mark.parametrize("request_id", ["short", "x" * 65, "abcdefgh'; DROP", "abcdefgh*/", "abcdefgh\n", "abc%defgh"])
def test_what_is_no_id_is_refused_before_anybody_is_asked(request_id: str) -> None:
    with pytest.raises(
        UserError, match="is no request's id: 8 to 64 letters, digits and -; it is in the answer's header"
    ):
        follow(settings.check(settings.read(settings.DEFAULTS), "stage2"), request_id)
