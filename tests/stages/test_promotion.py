"""Promotion while all is well: the primary changes places with its replica, and nobody who visits is turned away."""

import httpx
import pytest

from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(3)

TIMES = 2
"""There, and back."""


def confirmed(stack: Stack) -> bool:
    """A replica confirms what the primary writes."""
    ask = "SHOW STATUS LIKE 'Rpl_semi_sync_source_status'"
    return stack.sql(stack.holder("primary"), ask) == [["Rpl_semi_sync_source_status", "ON"]]


def terms(stack: Stack) -> int:
    ((last,),) = stack.sql(stack.holder("primary"), "SELECT COALESCE(MAX(term), 0) FROM tier.promotions")
    return int(last)


def test_the_primary_waits_for_its_replica_before_it_commits(stack: Stack) -> None:
    """For as long as it takes: who ends that is node/confirmed.py, which leaves word first."""
    wait_until(lambda: confirmed(stack), within=20, what="a replica confirms")
    names = ("wait_point", "timeout", "wait_no_replica")
    query = f"SELECT {', '.join(f'@@rpl_semi_sync_source_{name}' for name in names)}"
    assert stack.sql(stack.holder("primary"), query) == [["AFTER_SYNC", "4294967295", "1"]]
    assert stack.sql(stack.holder("replica"), "SELECT @@rpl_semi_sync_source_enabled") == [["0"]]


@pytest.mark.usefixtures("one_writer")
def test_there_and_back_again_under_traffic(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    """No request fails, no server is started anew, and each is the primary in its turn."""
    before = terms(stack)
    for _ in range(TIMES):
        old, new = stack.holder("primary"), stack.holder("replica")
        said = stack.must("promote")
        assert f"{old} (well) is closed for writing, and follows {new}" in said
        assert stack.holder("primary") == new
        traffic.more("write", 4)
        wait_until(lambda: confirmed(stack), within=20, what="a replica confirms again")
        assert stack.holder("replica") == old
        measure("it said", said.splitlines()[-1].strip())
    history = traffic.finish()

    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")
    assert terms(stack) == before + TIMES
    assert stack.starts() == stack.since
    stack.keeps_promises(traffic.run, history)


@pytest.mark.long
def test_no_stage_is_brought_up_without_its_primary(stack: Stack, visitor: httpx.Client) -> None:
    """Stage 0 has db1 alone."""
    if stack.holder("primary") == "db1":
        stack.must("promote", NODE="db2")
    refused = stack.make("up", STAGE="0")
    assert refused.returncode != 0
    assert "db2 is the primary, and stage 0 has none of that name; nothing was changed." in refused.stderr
    assert "make promote NODE=db1" in refused.stderr
    assert visitor.get("/").status_code == 200
    wait_until(lambda: confirmed(stack), within=20, what="db1 follows, and confirms")
    stack.must("promote", NODE="db1")
    assert stack.holder("primary") == "db1"
