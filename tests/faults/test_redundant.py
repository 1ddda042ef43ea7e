"""Loss of what stage 1 has twice: a reader notices nothing, and no acknowledged write is lost or doubled."""

import time

import pytest

from tests.conftest import Measure, Stack
from tests.traffic import FAULTS, Traffic

ALLOWED_FAILED_READS = 0
ALLOWED_FAILED_WRITES = 0
"""Except those that a server had already taken when it was frozen: the next one may find them under way (409)."""
WATCHED_READS = 50
"""Reads sent while a fault lasts, and their answers, however late."""
BACK_WITHIN = 60.0
"""Seconds until what was lost serves again, once the fault is undone."""

pytestmark = pytest.mark.stage(1)


@pytest.mark.parametrize("node", ["web1", "app1", "server2", "replica"])
def test_nobody_notices(stack: Stack, traffic: Traffic, measure: Measure, node: str) -> None:
    members = [stack.holder("replica")] if node == "replica" else ["web2", "app2", "db2"][: 3 * (node == "server2")]
    members = members or [node]
    frozen = 0.0
    for verb, undo in FAULTS:
        struck = time.monotonic()
        said = stack.must(verb, NODE=node)
        frozen = time.monotonic() if verb == "pause" else frozen
        assert [line.split()[0] for line in said.splitlines()] == members
        traffic.more("read", WATCHED_READS)
        # Nobody is the replica while it is gone: then its container is what we mend.
        stack.must(undo, NODE=members[0] if node == "replica" else node)
        back = traffic.sees(*members, within=BACK_WITHIN)
        traffic.more("read", 5)
        measure(f"{verb}: seconds until it serves again", round(back, 1))
        measure(verb, traffic.history().between(struck, time.monotonic()).summary())
    history = traffic.stop()

    assert len(history.bad("read")) <= ALLOWED_FAILED_READS, history.told("read")
    failed = [w for w in history.bad("write") if not w.due < frozen < w.end]
    assert len(failed) <= ALLOWED_FAILED_WRITES, "\n".join(map(str, failed))
    stack.keeps_promises(traffic.run, history)
