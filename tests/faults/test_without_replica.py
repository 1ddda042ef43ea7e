"""DB_WITHOUT_REPLICA=wait: without its replica the site acknowledges no write, and reads on.

What go-on does instead is in the tests of promotion, and in docs/decisions/semi-synchronous.md.
"""

from collections.abc import Iterator

import pytest

from ladder import promote
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import Traffic

pytestmark = [pytest.mark.stage(3), pytest.mark.long]


@pytest.fixture
def waiting(stack: Stack) -> Iterator[None]:
    """The databases wait for a replica for as long as it takes; and no longer at the end, whatever happened."""
    stack.up = -1
    stack.must("up", STAGE="3", DB_WITHOUT_REPLICA="wait")
    stack.is_up(3)
    stack.is_whole()
    yield
    stack.up = -1
    stack.must("up", STAGE="3", DB_WITHOUT_REPLICA="go-on")
    stack.is_up(3)
    stack.is_whole()


@pytest.mark.parametrize(
    ("verb", "values"),
    [("kill", {}), ("partition", {"WAY": "out"})],
    ids=["the replica is dead", "what the replica says is lost"],
)
# Each write that waits keeps a connection to the primary, of 220, although its visitor has gone: so few of them.
@pytest.mark.parametrize("traffic", [{"writes": 2.0}], indirect=True, ids=["2 writes a second"])
def test_writing_waits_for_the_replica_and_reading_does_not(
    stack: Stack, waiting: None, traffic: Traffic, measure: Measure, verb: str, values: dict[str, str]
) -> None:
    """In the second case it has received, and executed, what it could not confirm: that is not thrown away."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    fillings = stack.log(replica).count("cloning: ")
    stack.must(verb, NODE=replica, **values)
    since = traffic.now()
    traffic.more("write", 4)
    held = traffic.history(since)
    assert not held.of("write", "ok"), f"acknowledged by {primary} alone: {held.of('write', 'ok')}"
    assert promote.kept(stack.node(primary), "alone") is None
    assert stack.holder("primary") == primary

    stack.must("heal", NODE=replica)
    measure("seconds from the healing until writes succeed", round(traffic.recovers("write", within=60), 1))
    stack.must("heal")
    stack.is_whole()
    history = traffic.finish()

    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    assert stack.log(replica).count("cloning: ") == fillings, "it was filled anew"
    stack.keeps_promises(traffic.run, history)
