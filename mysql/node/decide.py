"""Which part a database node plays, decided from what it and its peers say: a pure function.

The rule behind every line: a node becomes writable only when nobody else can be, and no
acknowledged transaction is thrown away while a copy of it may exist somewhere. When that
cannot be proven the node waits, says why, and is asked again a second later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from node.gtid import GtidSet


@dataclass(frozen=True)
class Facts:
    """What a node that answers says of itself."""

    name: str
    writable: bool = False  # by clients
    locked: bool = True  # against administrators too
    executed: GtidSet = field(default_factory=GtidSet)
    owned: GtidSet = field(default_factory=GtidSet)  # being committed; on stage 3 it waits for a replica's word
    purged: GtidSet = field(default_factory=GtidSet)  # executed, no longer in its binary logs
    received: GtidSet = field(default_factory=GtidSet)  # sent by its source, maybe not executed
    source: str | None = None  # whom its replication channel names; None for a former primary
    has_schema: bool = False
    term: int = 0  # of the last promotion that it knows of; its own, if it was the primary since
    alone: bool = False  # the primary, and no replica confirms its writes
    receiving: bool = False  # the thread that fetches from the source is not stopped
    connected: bool = False  # and the source lets it in
    applying: bool = False  # the thread that executes what was fetched is not stopped
    trouble: str = ""  # the error that keeps a thread from working, which may pass
    fault: str = ""  # why replication stopped for good, when only a fresh copy mends it

    @property
    def empty(self) -> bool:
        """Nothing of the site is here. The schema counts too: GTIDs can be reset by hand."""
        return not self.executed and not self.has_schema

    @property
    def known(self) -> GtidSet:
        """Everything it has or will have once its relay log is executed."""
        return self.executed | self.received

    @property
    def drained(self) -> bool:
        """Everything that was received is executed."""
        return self.executed >= self.received


@dataclass(frozen=True)
class Down:
    """Nothing listens there, so nothing there can be writable."""

    name: str


@dataclass(frozen=True)
class Unknown:
    """It does not answer us, which proves nothing: others may see it as writable."""

    name: str
    why: str


Peer = Facts | Down | Unknown


@dataclass(frozen=True)
class Lead:
    """Be the primary. `contested`: another node has a claim, so ask again before believing it."""

    contested: bool = False
    warning: str = ""


@dataclass(frozen=True)
class Follow:
    """Replicate from `source`, which is writable."""

    source: str


@dataclass(frozen=True)
class Clone:
    """Replace all data by a copy of `donor`'s, then follow it, or `lead` in its place."""

    donor: str
    why: str
    lead: bool = False
    discards: GtidSet = field(default_factory=GtidSet)


@dataclass(frozen=True)
class Wait:
    """Stay read only and ask again. `person`: this will not mend itself."""

    why: str
    person: bool = False


Decision = Lead | Follow | Clone | Wait


def decide(me: Facts, peers: Sequence[Peer], order: Sequence[str]) -> Decision:
    """The part `me` should play. `order` is DB_NODES, used only to break ties.

    `me` must have been asked before `peers`: a replica then never has what its primary hasn't heard of.
    """
    writable = [p for p in peers if isinstance(p, Facts) and p.writable]
    # Promoted since this node led: whatever this one believes, it is no longer the primary.
    later = [p for p in peers if isinstance(p, Facts) and p.source is None and p.term > me.term]
    if me.writable and me.source is None and not later:
        return _stay_primary(writable)
    last = max((p.term for p in writable), default=0)
    writable = [p for p in writable if p.term == last]
    if len(writable) > 1:
        return Wait(f"{_names(writable)} are both writable: stop the wrong one", person=True)
    if writable:
        return _follow(me, writable[0])
    if me.source is not None:
        return _stay_replica(me, peers, order)
    if me.empty:
        return _fill(me, peers, order)
    if later:
        return Wait(f"{_names(later)} was promoted after this node had led, and is not writable yet")
    return _lead_again(me, peers, order)


def _stay_primary(rivals: Sequence[Facts]) -> Decision:
    if not rivals:
        return Lead()
    return Lead(warning=f"{_names(rivals)} is writable as well: stop the wrong one")


def _follow(me: Facts, primary: Facts) -> Decision:
    # What waits there for the word of a replica (AFTER_SYNC) may be executed here already.
    mine = me.executed - (primary.executed | primary.owned)
    if me.empty:
        return Clone(primary.name, "this node is empty")
    if mine:
        return Clone(primary.name, f"{primary.name} does not have them", discards=mine)
    if primary.purged - me.known:
        return Clone(primary.name, f"{primary.name} no longer has the binary logs needed")
    if me.fault and me.source == primary.name:
        return Clone(primary.name, me.fault)
    return Follow(primary.name)


def _stay_replica(me: Facts, peers: Sequence[Peer], order: Sequence[str]) -> Decision:
    """A replica never promotes itself: what its primary had acknowledged may not be here."""
    if me.source not in order:
        return Wait(f"{me.source}, the primary of this copy, is not in DB_NODES", person=True)
    state = next((state_of(p) for p in peers if p.name == me.source), "is away")
    return Wait(f"its primary, {me.source}, {state}")


def _fill(me: Facts, peers: Sequence[Peer], order: Sequence[str]) -> Decision:
    """Empty, and nobody is writable. A lost disk must never start a new, empty site."""
    silent = [p for p in peers if not isinstance(p, Facts)]
    if silent:
        return Wait(f"this node is empty, and data may be on a node that is away: {_list(silent)}")
    holders = [p for p in peers if isinstance(p, Facts) and not p.empty]
    if not holders:
        first = next(name for name in order if name in {me.name, *(p.name for p in peers)})
        return Lead() if first == me.name else Wait(f"all nodes are empty; {first} begins")
    others = [p for p in holders if p.source != me.name]
    if others:
        return Wait(f"this node is empty; {_names(others)} has data and is not writable yet")
    return _restore(holders)


def _restore(copies: Sequence[Facts]) -> Decision:
    """I was the primary; my replicas are what is left of my data, or what is ahead of it."""
    best = next((c for c in copies if all(c.known >= other.known for other in copies)), None)
    if best is None:
        return Wait(f"{_names(copies)} differ: keep one, empty the others", person=True)
    if not best.drained:
        return Wait(f"until {best.name} has executed what it received")
    return Clone(best.name, f"{best.name} has the newest copy of this primary's data", lead=True)


def _lead_again(me: Facts, peers: Sequence[Peer], order: Sequence[str]) -> Decision:
    """Data and no replication channel: I was the primary. Lead, unless someone may be ahead."""
    unknown = [p for p in peers if isinstance(p, Unknown)]
    if unknown:
        return Wait(f"another primary cannot be ruled out: {_list(unknown)}")
    full = [p for p in peers if isinstance(p, Facts) and not p.empty]
    strangers = [p for p in full if p.source not in {None, me.name}]
    if strangers:
        return Wait(f"{_names(strangers)} follows another primary", person=True)
    ahead = [p for p in full if p.source == me.name and not me.executed >= p.known]
    if any(not p.known >= me.executed for p in ahead):
        return Wait(f"this node and {_names(ahead)} differ: keep one, empty the other", person=True)
    if ahead:
        return _restore(ahead)
    rivals = [p for p in full if p.source is None]
    for rival in rivals:
        contest = _contest(me, rival, order)
        if contest:
            return contest
    return Lead(contested=bool(rivals))


def _contest(me: Facts, rival: Facts, order: Sequence[str]) -> Wait | None:
    """Two former primaries: the one promoted last leads, else the one that has everything. None when that is me."""
    if me.term > rival.term:
        return None
    have_all, has_all = me.executed >= rival.executed, rival.executed >= me.executed
    if not have_all and not has_all:
        why = f"this node and {rival.name} were both primary and differ: keep one, empty the other"
        return Wait(why, person=True)
    mine_first = order.index(me.name) < order.index(rival.name)
    if have_all and (not has_all or mine_first):
        return None
    return Wait(f"{rival.name} has all of this node's data and leads")


def state_of(peer: Peer) -> str:
    """In the words of a log line."""
    if isinstance(peer, Facts):
        return "is not writable yet"
    return "is down" if isinstance(peer, Down) else peer.why


def _list(peers: Sequence[Peer]) -> str:
    return "; ".join(f"{p.name} {state_of(p)}" for p in peers)


def _names(peers: Sequence[Facts]) -> str:
    return " and ".join(p.name for p in peers)
