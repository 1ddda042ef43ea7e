"""Loss of what stage 1 has twice: a reader notices nothing, and no acknowledged write is lost or doubled."""

import time

import pytest

from tests.conftest import Measure, Stack
from tests.traffic import Traffic

ALLOWED_FAILED_READS = 0
ALLOWED_FAILED_WRITES = 0
"""Of the writes sent after the fault. A write that a frozen server had already taken may end as "under way" (409)."""
WATCHED_READS = 60
"""Reads sent while the fault lasts: three seconds' worth, and their answers, however late."""
UNDONE = {"kill": "is started", "pause": "is thawed", "partition": "is connected again"}

pytestmark = pytest.mark.stage(1)


@pytest.mark.parametrize("verb", ["kill", "pause", "partition"])
@pytest.mark.parametrize("node", ["web1", "app1", "server2", "replica"])
def test_nobody_notices(stack: Stack, traffic: Traffic, measure: Measure, verb: str, node: str) -> None:
    struck = time.monotonic()
    said = stack.must(verb, NODE=node)
    struck_until = time.monotonic()
    traffic.more("read", WATCHED_READS)
    healed = stack.must("heal")
    back = traffic.recovers("write", within=30)
    history = traffic.stop()

    measure("history", history.summary())
    measure("seconds until healed", round(time.monotonic() - struck_until - back, 1))
    broken = [line.split()[0] for line in said.splitlines()]
    assert broken
    assert {f"{name} {UNDONE[verb]}" for name in broken} <= set(healed.splitlines())
    assert len(history.bad("read")) <= ALLOWED_FAILED_READS, history.told("read")
    under_way = [w for w in history.bad("write") if verb == "pause" and w.due < struck_until and w.end > struck]
    failed = [w for w in history.bad("write") if w not in under_way]
    assert len(failed) <= ALLOWED_FAILED_WRITES, "\n".join(map(str, failed))
    stack.keeps_promises(traffic.run, history)
