"""The database tier of stage 1: without its primary the site reads on, and no node is ever wrong about what it has."""

import time
import uuid

import httpx
import pytest

from ladder.drills.record import Request
from ladder.engine import client
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import History, Traffic

FILLED_WITHIN = 120.0
"""Seconds until a replica that has to be filled by clone replicates again."""

pytestmark = pytest.mark.stage(1)


def failed(history: History, kind: str) -> list[Request]:
    """But for the balancer's own 503: both web servers were late with two checks, in which no database has a part."""
    return [each for each in history.bad(kind) if (each.status, each.served_by) != (503, "lb1")]


def test_pages_say_that_writing_is_held(stack: Stack) -> None:
    with stack.visitor() as browser:
        form = browser.get("/register").text
        token = form.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
        stack.must("kill", NODE="primary")
        name = f"held-{uuid.uuid4().hex[:8]}"
        wait_until(
            lambda: browser.get("/api/served-by").json()["writes"]["name"] is None,
            within=20,
            what="it is noticed",
        )
        refused = browser.post("/register", data={"csrf_token": token, "name": name, "password": "typed with care"})

        def held() -> httpx.Response | None:  # each worker asks for itself
            page = browser.get("/")
            return page if "<b>held</b>" in page.text else None

        wall = wait_until(held, within=10, what="the wall says so")

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert "Writing is paused" in refused.text
    assert name in refused.text, "what was typed is lost"
    assert wall is not None
    assert wall.status_code == 200


def test_a_replica_recreated_empty_fills_itself_by_clone(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    """Also when the primary's binary logs no longer reach back to the beginning."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    stack.sql(primary, "FLUSH BINARY LOGS")
    ((newest, *_),) = stack.sql(primary, "SHOW BINARY LOG STATUS")
    stack.sql(primary, f"PURGE BINARY LOGS TO '{newest}'")
    stack.up = -1

    stack.compose("rm", "--stop", "--force", "--volumes", replica)
    client().volumes.get(f"{stack.settings.project}_{replica}").remove()
    begun = time.monotonic()
    stack.must("up", STAGE="1")
    stack.is_up(1)
    wait_until(lambda: stack.holder("replica") == replica, within=FILLED_WITHIN, what=f"{replica} is the replica again")
    took = time.monotonic() - begun
    history = traffic.finish()

    measure("seconds until it replicates, make up included", round(took, 1))
    measure("history", history.summary())
    assert f"cloning: all data of {primary}: this node is empty" in stack.log(replica)
    assert not failed(history, "read"), history.told("read")
    assert not failed(history, "write"), history.told("write")
    stack.keeps_promises(traffic.run, history)


def test_a_replica_that_was_away_too_long_fills_itself_by_clone(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    primary, replica = stack.holder("primary"), stack.holder("replica")
    stack.must("kill", NODE="replica")
    traffic.more("write", 4)
    stack.sql(primary, "FLUSH BINARY LOGS")
    ((newest, *_),) = stack.sql(primary, "SHOW BINARY LOG STATUS")
    stack.sql(primary, f"PURGE BINARY LOGS TO '{newest}'")
    traffic.more("write", 4)

    begun = time.monotonic()
    stack.must("heal")
    wait_until(
        lambda: "no longer has the binary logs needed" in stack.log(replica), within=FILLED_WITHIN, what="it says why"
    )
    wait_until(
        lambda: (
            stack.node(replica).status == "running"
            and f"{replica}: replica: of {primary}" in after_clone(stack, replica)
        ),
        within=FILLED_WITHIN,
        what=f"{replica} replicates again",
    )
    measure("seconds until it replicates", round(time.monotonic() - begun, 1))
    history = traffic.finish()
    measure("history", history.summary())
    assert not failed(history, "read"), history.told("read")
    stack.keeps_promises(traffic.run, history)


def after_clone(stack: Stack, node: str) -> str:
    """What a node has said since its last clone."""
    return stack.log(node).rpartition("cloning: ")[2]


def test_a_replica_with_data_of_its_own_is_discarded_and_says_so(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    """A transaction that only the replica has can't be kept: the primary's data is the truth."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    text = f"only here {uuid.uuid4().hex}"
    copy = (
        f"INSERT INTO messages (account_id, body, created_at) SELECT account_id, '{text}', NOW() FROM messages LIMIT 1"
    )

    begun = time.monotonic()
    stack.sql(replica, f"SET GLOBAL super_read_only = OFF; {copy}")
    wait_until(
        lambda: "discards 1 transactions" in stack.log(replica), within=30, what="the replica says what it discards"
    )
    wait_until(
        lambda: f"{replica}: replica: of {primary}" in after_clone(stack, replica),
        within=FILLED_WITHIN,
        what=f"{replica} replicates again",
    )
    measure("seconds until it replicates", round(time.monotonic() - begun, 1))
    traffic.recovers("read", within=30)
    history = traffic.finish()

    measure("history", history.summary())
    for node in stack.stage.databases:
        assert stack.sql(node, f"SELECT COUNT(*) FROM messages WHERE body = '{text}'") == [["0"]]
    assert stack.sql(replica, "SELECT @@super_read_only") == [["1"]]
    assert not failed(history, "read"), history.told("read")
    assert not failed(history, "write"), history.told("write")
    stack.keeps_promises(traffic.run, history)
