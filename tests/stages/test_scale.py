"""Tiers that grow and shrink, versions that come and are taken back, files that are reloaded: no visitor notices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from ladder.collector import ask
from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack, file_with
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(3)


def none_failed(traffic: Traffic) -> str:
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")
    assert history.of("read")
    assert history.of("write")
    return history.summary()


def test_tiers_grow_and_shrink_and_nobody_notices(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    assert "app3, web3 are in use" in stack.must("scale", APP="3", WEB="3").replace("web3, app3", "app3, web3")
    traffic.sees("web1", "web2", "web3", "app1", "app2", "app3", within=20)
    assert "web3" in stack.must("lb")
    wait_until(
        lambda: {"app3"} <= {s.labels["instance"] for s in ask(stack.settings, 'up{job="app"} == 1')},
        within=30,
        what="the third is watched",
    )
    before = stack.starts()
    stack.must("up", STAGE="3")
    assert stack.starts() == before, "up keeps them as they are"

    said = stack.must("scale", APP="2", WEB="2")
    assert "drained and gone" in said
    assert not {"web3", "app3"} & set(stack.starts())
    assert "web3" not in stack.must("lb")
    traffic.more("read", 100)
    measure("scaled up and down", none_failed(traffic))


@pytest.mark.long
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "how many"),
        ({"APP": "0"}, "a whole number from 1 to 8"),
        ({"WEB": "many"}, "a whole number from 1 to 8"),
        ({"APP": "100"}, "a whole number from 1 to 8"),
        ({"APP": "8"}, "max_connections"),
    ],
)
def test_what_can_not_be_is_refused_and_changes_nothing(stack: Stack, values: dict[str, str], said: str) -> None:
    before = stack.starts()
    done = stack.make("scale", **values)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert stack.starts() == before


@pytest.mark.stage(2)
def test_where_tiers_are_not_apart_nothing_can_be_scaled(stack: Stack) -> None:
    assert "try: make up STAGE=3" in stack.make("scale", APP="3").stderr


def version(stack: Stack) -> set[str]:
    with stack.visitor() as visitor:
        return {visitor.get("/healthz").headers["X-App-Version"] for _ in range(8)}


@pytest.mark.long
def test_a_version_comes_and_one_that_does_not_become_well_is_taken_back(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    (old,) = version(stack)
    new = str(int(old) + 1)
    assert f"app1 and app2 run version {new}" in stack.must("deploy")
    assert version(stack) == {new}

    started = stack.starts()
    app = ROOT / "app/wall/__init__.py"
    with file_with(app, 'return Response("ok\\n", mimetype', 'return Response("no\\n", status=500, mimetype'):
        done = stack.make("deploy")
    assert done.returncode != 0
    assert f"version {int(new) + 1} is taken back, all servers run version {new}" in done.stderr
    assert version(stack) == {new}
    now = stack.starts()
    assert {node: now[node] for node in ("web1", "web2", "app1", "app2")} == {
        node: started[node] for node in ("web1", "web2", "app1", "app2")
    }, "nobody was touched"
    measure("deployed, and taken back", none_failed(traffic))


MIGRATIONS = ROOT / "app/migrations"
STEP = """import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{after}"


def upgrade() -> None:
    {change}
"""


@contextmanager
def step(name: str, after: str, change: str) -> Iterator[Path]:
    """One more migration in this checkout, for a moment."""
    path = MIGRATIONS / f"versions/{name}.py"
    path.write_text(STEP.format(name=name, after=after, change=change))
    try:
        yield path
    finally:
        path.unlink()


def columns(stack: Stack) -> set[str]:
    """Of the table of messages, on the primary."""
    return {name for name, *_ in stack.sql(stack.holder("primary"), "SHOW COLUMNS FROM messages")}


@pytest.mark.long
def test_the_schema_grows_and_shrinks_under_visitors_and_none_fails(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    """Expand and contract: each with a deploy of its own."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head
    expand = 'op.add_column("messages", sa.Column("for_a_test", sa.String(20), nullable=True))'
    try:
        with step("test_expand", head, expand):
            stack.must("deploy")
            assert "for_a_test" in columns(stack)
            with step("test_contract", "test_expand", 'op.drop_column("messages", "for_a_test")'):
                stack.must("deploy")
                assert "for_a_test" not in columns(stack)
        measure("expanded and contracted", none_failed(traffic))
    finally:
        # The checkout is as it was; so is to be what others find.
        primary = stack.holder("primary")
        if "for_a_test" in columns(stack):
            stack.sql(primary, "ALTER TABLE messages DROP COLUMN for_a_test")
        stack.sql(primary, f"UPDATE alembic_version SET version_num = '{head}'")
        stack.must("deploy")


ASK = "exec 3<>/dev/tcp/web1/80; printf 'GET /nginx-health HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3"


@pytest.mark.long
def test_files_are_reloaded_and_wrong_ones_are_not(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    nginx, haproxy = ROOT / "nginx/nginx.conf", ROOT / "haproxy/haproxy.cfg"
    with file_with(nginx, 'return 200 "ok\\n";', 'return 200 "changed\\n";'):
        said = stack.must("reload")
    # nginx is told, and goes over when it has read it.
    wait_until(lambda: stack.run_in("lb1", "bash", "-c", ASK) == "changed\n", within=10, what="web1 has gone over")
    assert "gone over to haproxy/haproxy.cfg" in said
    assert "web1, web2 have gone over to nginx/nginx.conf" in said
    marked = "http-request return status 204 if { path /changed }"
    with file_with(haproxy, "    default_backend web", f"    {marked}\n    default_backend web"):
        stack.must("reload")
    with stack.visitor() as visitor:
        assert visitor.get("/changed").status_code == 204

    for file, right, wrong in (
        (nginx, "server_tokens off", "server_tokens of"),
        (haproxy, "maxconn 2000", "maxcon 2000"),
    ):
        with file_with(file, right, wrong):
            done = stack.make("reload")
        assert done.returncode != 0
        assert f"{file.relative_to(ROOT)} is wrong; nothing was changed" in done.stderr
    stack.must("reload")
    with stack.visitor() as visitor:
        assert visitor.get("/changed").status_code == 404
    measure("reloaded", none_failed(traffic))
