"""Partitions in every direction, before a promotion and in the middle of one: never two databases that may be written.

The watcher (tests/writers.py) asks both from every application server, all the time.
"""

import uuid
from collections.abc import Callable, Iterator

import pytest

from ladder import promote, replication
from ladder.errors import UserError
from ladder.faults import Order, addresses, carry_out
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.faults.test_promotion import INSERT, writable
from tests.stack import Stack
from tests.stages.test_promotion import terms
from tests.traffic import Traffic

pytestmark = [pytest.mark.stage(3), pytest.mark.long, pytest.mark.usefixtures("one_writer")]

FIT, CLOSED = "is fit to lead", "is closed for writing"
"""Steps of a promotion: nothing is touched yet; nobody is the primary."""
NOTICED_WITHIN = 30.0
"""Seconds until a replica knows that it hears nothing of its source: replica_net_timeout, 6 s, on a busy machine."""


def deaf(stack: Stack, node: str, other: str) -> None:
    """It hears nothing more of one other, who hears it. A healing takes it away, as it does any partition."""
    stack.broken = True
    drop = f"ip saddr {{ {', '.join(addresses(stack.node(other)))} }} drop"
    hook = "type filter hook input priority -300"
    stack.run_in(node, "nft", f"table inet partition {{ chain input {{ {hook}; {drop}; }}; }}")


def all_is_well_again(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    """Healed, one is the primary and the other its replica; nothing is lost, and who reads has met nothing."""
    stack.must("heal")
    stack.is_whole()
    assert writable(stack, *stack.stage.databases) == [stack.holder("primary")]
    traffic.more("write", 4)
    history = traffic.finish()
    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    stack.keeps_promises(traffic.run, history)


@pytest.mark.parametrize("deaf_one", ["both", "primary", "replica"])
def test_of_two_databases_that_do_not_hear_each_other_the_one_that_is_well_leads_on(
    stack: Stack, traffic: Traffic, measure: Measure, deaf_one: str
) -> None:
    """It may acknowledge what the other doesn't get; so not even force makes that one the primary."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    before = terms(stack)
    if deaf_one == "both":
        said = stack.must("partition", NODE=primary, WAY=replica)
        assert said.strip() == f"{primary} is cut off from {replica}"
    else:
        deaf(stack, *((primary, replica) if deaf_one == "primary" else (replica, primary)))

    def receives() -> bool:
        found = replication.ask(stack.node(replica))
        return found is None or found.receiving

    wait_until(lambda: not receives(), within=NOTICED_WITHIN, what=f"{replica} knows that it hears nothing")
    for values in ({}, {"FORCE": "1"}):
        refused = stack.make("promote", **values)
        assert refused.returncode != 0
        assert f"{replica} does not receive from {primary}, which is well" in refused.stderr, refused.stderr
    assert writable(stack, primary, replica) == [primary]
    assert terms(stack) == before
    traffic.recovers("write", within=20)

    all_is_well_again(stack, traffic, measure)
    assert (stack.holder("primary"), stack.holder("replica")) == (primary, replica)


def test_an_application_server_that_the_primary_alone_does_not_reach_writes_again_after_a_promotion(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    """The other one reaches the primary: it is well, and hands over as it does when nothing is wrong."""
    old, new = stack.holder("primary"), stack.holder("replica")
    stack.must("partition", NODE="app1", WAY="primary")
    assert promote.reached_by(stack.node("app1"), (old, new)) == {new}
    assert promote.reached_by(stack.node("app2"), (old, new)) == {old, new}

    said = stack.must("promote")

    assert f"{old} (well) is closed for writing, and follows {new}" in said
    assert writable(stack, old, new) == [new]
    traffic.recovers("write", within=20)
    since = traffic.now()

    def by_app1() -> bool:
        return any("app1" in write.served_by.split(", ") for write in traffic.history(since).of("write", "ok"))

    wait_until(by_app1, within=20, what="app1 writes")
    afterwards = traffic.history(since)
    assert not afterwards.bad("write"), afterwards.told("write")
    all_is_well_again(stack, traffic, measure)
    assert stack.holder("primary") == new


def interfered(steps: Iterator[str], step: str, happens: Callable[[], object]) -> str:
    """What a promotion says, its refusal included, when something happens right after one of its steps."""
    said = []
    try:
        for each in steps:
            said.append(each)
            if step in each:
                happens()
    except UserError as error:
        said.append(str(error))
    return "\n".join(said)


@pytest.mark.parametrize("step", [FIT, CLOSED])
@pytest.mark.parametrize(
    ("cut_off", "way"),
    [
        *(("primary", way) for way in ("both", "in", "out")),
        *(("candidate", way) for way in ("both", "in", "out")),
        ("primary", "candidate"),
    ],
    ids=lambda value: str(value),
)
def test_a_partition_in_the_middle_of_a_promotion_leaves_one_that_leads(
    stack: Stack, traffic: Traffic, measure: Measure, cut_off: str, way: str, step: str
) -> None:
    """Before the old one is closed, it writes once more, which the candidate may not get: then it takes over again.

    Once it is closed, the candidate has everything, and leads. If that is the one whom nobody reaches, a promotion more
    makes the other the primary, and brings over what it lacks.
    """
    old, new = stack.holder("primary"), stack.holder("replica")
    nodes = {"primary": old, "candidate": new}
    text = f"in the middle {uuid.uuid4().hex}"
    stack.is_whole()

    def happens() -> None:
        stack.broken = True
        carry_out(stack.settings, Order("partition", nodes[cut_off], nodes.get(way, way if way != "both" else "")))
        if step == FIT:
            stack.sql(old, INSERT.format(text))

    begun = traffic.now()
    said = interfered(promote.promote(stack.settings), step, happens)
    measure("it said", said.splitlines()[-1].strip())
    assert step in said, said
    (leads,) = writable(stack, old, new)
    assert (f"{old} is the primary again" in said) == (leads == old), said
    assert (f"{new} has everything that it can have, and is the primary" in said) == (leads == new), said
    if step == CLOSED:
        assert leads == new

    if leads == nodes[cut_off] and way not in nodes:
        assert f"{leads} (cut off) is closed for writing" in stack.must("promote")
        assert leads not in writable(stack, old, new)
    traffic.recovers("write", within=20)
    measure("seconds from the command until writes succeed", round(traffic.now() - begun, 1))
    all_is_well_again(stack, traffic, measure)
    for node in (old, new):
        assert stack.sql(node, f"SELECT COUNT(*) FROM messages WHERE body = '{text}'") == [[str(int(step == FIT))]]
