"""Who becomes the primary: every case of node.decide as a row of given facts and expected part.

The names of the transactions are short: A is what db1 wrote as primary, B what db2 did.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from node.decide import Clone, Decision, Down, Facts, Follow, Lead, Peer, Unknown, Wait, decide
from node.gtid import GtidSet

A, B = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"
ORDER = ("db1", "db2")
THREE = ("db1", "db2", "db3")


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text.replace("A:", f"{A}:").replace("B:", f"{B}:"))


def node(
    name: str,
    executed: str = "",
    *,
    purged: str = "",
    received: str = "",
    source: str | None = None,
    writable: bool = False,
    fault: str = "",
    term: int = 0,
) -> Facts:
    return Facts(
        name=name,
        writable=writable,
        executed=gtids(executed),
        purged=gtids(purged),
        received=gtids(received),
        source=source,
        has_schema=bool(executed),
        fault=fault,
        term=term,
    )


PAUSED = Unknown("db2", "does not answer")
PRIMARY = node("db1", "A:1-9", writable=True)
SAME = "differ: keep one"

CASES: dict[str, tuple[Facts, list[Peer], Decision | tuple[type[Decision], str]]] = {
    # Alone: stage 0
    "alone and empty": (node("db1"), [], Lead()),
    "alone with data": (node("db1", "A:1-9"), [], Lead()),
    "alone with another's data": (node("db1", "A:1-9", source="db2"), [], (Wait, "is down")),
    # A writable peer
    "empty": (node("db2"), [PRIMARY], (Clone, "empty")),
    "empty, and so is the new primary": (
        node("db2"),
        [node("db1", writable=True)],
        (Clone, "empty"),
    ),
    "behind": (node("db2", "A:1-5"), [PRIMARY], Follow("db1")),
    "up to date": (node("db2", "A:1-9"), [PRIMARY], Follow("db1")),
    "a returning primary": (node("db1", "A:1-9"), [node("db2", "A:1-9,B:1", writable=True)],
                            Follow("db2")),
    "a new source": (node("db2", "A:1-9", source="db3"), [PRIMARY], Follow("db1")),
    "behind, logs purged that it has": (
        node("db2", "A:1-5"), [replace(PRIMARY, purged=gtids("A:1-5"))], Follow("db1")),
    "behind, logs purged that it needs": (
        node("db2", "A:1-5"), [replace(PRIMARY, purged=gtids("A:1-6"))], (Clone, "binary logs")),
    "behind, logs purged that it received": (
        node("db2", "A:1-5", received="A:1-7", source="db1"),
        [replace(PRIMARY, purged=gtids("A:1-6"))],
        Follow("db1"),
    ),
    "ahead": (node("db2", "A:1-12,B:4"), [PRIMARY],
              Clone("db1", "db1 does not have them", discards=gtids("A:10-12,B:4"))),
    "ahead by what the primary waits to be told of": (
        node("db2", "A:1-11", source="db1"), [replace(PRIMARY, owned=gtids("A:10-11"))], Follow("db1")),
    "ahead by more than that": (
        node("db2", "A:1-12", source="db1"), [replace(PRIMARY, owned=gtids("A:10-11"))],
        Clone("db1", "db1 does not have them", discards=gtids("A:12"))),
    "thread lost for good": (
        node("db2", "A:1-5", source="db1", fault="logs purged"), [PRIMARY], (Clone, "logs purged")),
    "a fault of an earlier source": (
        node("db2", "A:1-5", source="db3", fault="logs purged"), [PRIMARY], Follow("db1")),
    "opened by hand while it follows": (
        node("db2", "A:1-9,B:1", source="db1", writable=True), [PRIMARY], (Clone, "not have them")),
    # A replica whose primary is away never promotes itself
    "replica, primary down": (
        node("db2", "A:1-9", source="db1"), [Down("db1")], (Wait, "db1, is down")),
    "replica, primary paused": (
        node("db2", "A:1-9", source="db1"), [Unknown("db1", "does not answer")],
        (Wait, "db1, does not answer")),
    "replica, primary not open yet": (
        node("db2", "A:1-9", source="db1"), [node("db1", "A:1-9")], (Wait, "not writable yet")),
    "replica, primary lost its disk": (
        node("db2", "A:1-9", source="db1"), [node("db1")], (Wait, "not writable yet")),
    "replica opened by hand, primary down": (
        node("db2", "A:1-9", source="db1", writable=True), [Down("db1")], (Wait, "db1, is down")),
    "replica of a node that is gone": (
        node("db2", "A:1-9", source="db7"), [node("db1", "A:1-9")], (Wait, "not in DB_NODES")),
    # A former primary
    "former primary, replica down": (node("db1", "A:1-9"), [Down("db2")], Lead()),
    "former primary, replica paused": (node("db1", "A:1-9"), [PAUSED], (Wait, "db2 does not ans")),
    "former primary, replica behind": (
        node("db1", "A:1-9"), [node("db2", "A:1-5", received="A:1-7", source="db1")], Lead()),
    "former primary, replica empty": (node("db1", "A:1-9"), [node("db2")], Lead()),
    "former primary, replica ahead": (
        node("db1", "A:1-5"), [node("db2", "A:1-9", source="db1")],
        Clone("db2", "db2 has the newest copy of this primary's data", lead=True)),
    "former primary, replica about to be ahead": (
        node("db1", "A:1-5"), [node("db2", "A:1-5", received="A:1-9", source="db1")],
        (Wait, "until db2 has executed")),
    "former primary, replica differs": (
        node("db1", "A:1-5,B:1"), [node("db2", "A:1-9", source="db1")], (Wait, SAME)),
    "former primary, the other follows a third": (
        node("db1", "A:1-5"), [node("db2", "A:1-9", source="db3")], (Wait, "another primary")),
    # Two former primaries
    "both were primary, this has more": (
        node("db1", "A:1-9,B:1"), [node("db2", "A:1-9")], Lead(contested=True)),
    "both were primary, the other has more": (
        node("db1", "A:1-9"), [node("db2", "A:1-9,B:1")], (Wait, "db2 has all")),
    "both were primary, equal, first named": (
        node("db1", "A:1-9"), [node("db2", "A:1-9")], Lead(contested=True)),
    "both were primary, equal, second named": (
        node("db2", "A:1-9"), [node("db1", "A:1-9")], (Wait, "db1 has all")),
    "both were primary and differ": (
        node("db1", "A:1-10"), [node("db2", "A:1-9,B:1")], (Wait, SAME)),
    # A lost disk, or a first start
    "empty, the other down": (node("db1"), [Down("db2")], (Wait, "db2 is down")),
    "empty, the other paused": (node("db1"), [PAUSED], (Wait, "db2 does not answer")),
    "all empty, first named": (node("db1"), [node("db2")], Lead()),
    "all empty, second named": (node("db2"), [node("db1")], (Wait, "db1 begins")),
    "disk lost, replica has everything": (
        node("db1"), [node("db2", "A:1-9", received="A:1-9", source="db1")],
        Clone("db2", "db2 has the newest copy of this primary's data", lead=True)),
    "disk lost, replica not drained": (
        node("db1"), [node("db2", "A:1-7", received="A:1-9", source="db1")],
        (Wait, "until db2 has executed")),
    "empty, a former primary is there": (
        node("db2"), [node("db1", "A:1-9")], (Wait, "db1 has data")),
    "empty by GTID only": (replace(node("db1"), has_schema=True), [Down("db2")], Lead()),
    # A promotion since
    "promoted since, and writable": (
        node("db1", "A:1-9"), [node("db2", "A:1-9,B:1", writable=True, term=1)], Follow("db2")),
    "promoted since, and both are writable": (
        PRIMARY, [node("db2", "A:1-9,B:1", writable=True, term=1)], Follow("db2")),
    "promoted since, and both have written": (
        node("db1", "A:1-12", writable=True), [node("db2", "A:1-9,B:1", writable=True, term=1)],
        Clone("db2", "db2 does not have them", discards=gtids("A:10-12"))),
    "promoted since, and restarting": (
        PRIMARY, [node("db2", "A:1-9,B:1", term=1)], (Wait, "db2 was promoted after")),
    "promoted since, and it has less": (
        node("db1", "A:1-12"), [node("db2", "A:1-9", term=1)], (Wait, "db2 was promoted after")),
    "promoted itself, the other was writable": (
        node("db2", "A:1-9,B:1", writable=True, term=1), [PRIMARY],
        Lead(warning="db1 is writable as well: stop the wrong one")),
    "promoted itself, the other has more": (
        node("db2", "A:1-9,B:1", term=1), [node("db1", "A:1-12")], Lead(contested=True)),
    "promoted itself, and once more the other": (
        node("db2", "A:1-9,B:1", term=1), [node("db1", "A:1-9,B:1,A:10", term=2)],
        (Wait, "db1 was promoted after")),
    # Already the primary
    "primary": (PRIMARY, [PAUSED], Lead()),
    "primary, replica ahead by hand": (
        PRIMARY, [node("db2", "A:1-9,B:1", source="db1")], Lead()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_two_nodes(case: str) -> None:
    me, peers, expected = CASES[case]
    order = ORDER if peers else (me.name,)
    if case == "alone with another's data":
        order, peers = ORDER, [Down("db2")]
    decision = decide(me, peers, order)
    if isinstance(expected, tuple):
        kind, words = expected
        assert isinstance(decision, kind)
        assert words in getattr(decision, "why", "")
    else:
        assert decision == expected


def test_two_writable_peers_need_a_person() -> None:
    peers = [PRIMARY, node("db2", "A:1-9,B:1", writable=True)]
    decision = decide(node("db3", "A:1-5", source="db1"), peers, THREE)
    assert isinstance(decision, Wait)
    assert decision.person
    assert "db1 and db2" in decision.why


def test_of_two_writable_peers_the_one_promoted_last_is_followed() -> None:
    peers = [PRIMARY, node("db2", "A:1-9,B:1", writable=True, term=1)]
    assert decide(node("db3", "A:1-5", source="db1"), peers, THREE) == Follow("db2")


def test_primary_names_a_second_one() -> None:
    decision = decide(PRIMARY, [node("db2", "A:1-9", writable=True)], ORDER)
    assert isinstance(decision, Lead)
    assert "db2" in decision.warning


def test_restores_from_the_replica_that_has_most() -> None:
    peers = [node("db2", "A:1-7", source="db1"), node("db3", "A:1-9", source="db1")]
    decision = decide(node("db1"), peers, THREE)
    assert isinstance(decision, Clone)
    assert (decision.donor, decision.lead) == ("db3", True)


def test_restores_from_no_replica_when_they_differ() -> None:
    peers = [node("db2", "A:1-9,B:1", source="db1"), node("db3", "A:1-10", source="db1")]
    decision = decide(node("db1"), peers, THREE)
    assert isinstance(decision, Wait)
    assert decision.person


HISTORIES = ("", "A:1-5", "A:1-9", "A:1-5,B:1")


def _pairs() -> list[tuple[Facts, Facts]]:
    """Every pair of histories and channels that two nodes can have."""
    left = [node("db1", h, source=s, term=t) for h in HISTORIES for s in (None, "db2") for t in (0, 1)]
    right = [node("db2", h, received=r, source=s) for h in HISTORIES for s in (None, "db1") for r in ("", "A:1-9")]
    return list(itertools.product(left, right))


@pytest.mark.parametrize(("one", "two"), _pairs())
def test_never_two_primaries_from_one_view(one: Facts, two: Facts) -> None:
    """Nodes that see each other never both lead, and who leads has all that was executed, or was promoted since."""
    first, second = decide(one, [two], ORDER), decide(two, [one], ORDER)
    assert not (isinstance(first, Lead) and isinstance(second, Lead))
    for me, other, decision in ((one, two, first), (two, one, second)):
        if isinstance(decision, Lead):
            assert me.executed >= other.executed or me.term > other.term


@pytest.mark.parametrize(("one", "two"), _pairs())
def test_silence_never_makes_a_primary(one: Facts, two: Facts) -> None:
    del two
    assert not isinstance(decide(one, [PAUSED], ORDER), Lead)
