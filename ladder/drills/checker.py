"""The checker: what visitors felt, and what became of their writes, from a record alone.

How each figure is defined is also in docs/measuring.md. A record that can't carry a verdict is void, never green.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ladder.drills.record import Record, Request, Stored
from ladder.stages import stage_of

RECOVERED = 3
"""So many successes in a row end an outage."""
SLOW = 0.9
"""Seconds; an answer that took longer was felt. Below the 1 s after which a connection to a dead server is given up."""
LATE = 0.2
"""Seconds; a request that left so long after it was due was held up by the visitor itself …"""
LATE_SHARE = 0.01
"""… and with more of these than this share the record says more of the visitor's machine than of the stack."""


@dataclass(frozen=True)
class Outage:
    """A time without success, in seconds since the drill's beginning. `end` is None when it lasted to the end."""

    begin: float
    end: float | None

    def lasts_over(self, moment: float) -> bool:
        """It was not over by then."""
        return self.begin < moment and (self.end is None or self.end > moment)


@dataclass(frozen=True)
class Stream:
    """What one kind of requests felt. Times are in seconds."""

    kind: str
    sent: int
    failed: int
    unknown: int
    gap: float
    """The longest time without success; to the end of the record if none came any more."""
    until_healed: bool
    """When a fault was undone, it had been down for longer than SLOW, and still was: nothing but a person helped."""
    felt: float
    """The requests that failed or took longer than SLOW, over their rate: for so long, had it been everybody."""
    p50: float
    p99: float
    slowest: float
    """Latencies, of all but the failed: a quick refusal is no quick answer. One given up counts with its wait."""
    down_at_end: bool = False
    """It was down, and no three successes came any more."""

    @property
    def bad(self) -> int:
        """Those that were not answered as they should."""
        return self.failed + self.unknown


@dataclass(frozen=True)
class Verdict:
    """What a drill showed."""

    reads: Stream
    writes: Stream
    lost: tuple[str, ...]
    """Acknowledged writes that the primary does not hold at the end, under the id that was given."""
    twice: tuple[str, ...]
    """Writes that it holds more than once."""
    resolved: int
    """Of the writes of unknown outcome, those that had happened."""
    refused_but_stored: int
    """Of the writes answered by an error, those that had happened all the same."""
    differing: tuple[str, ...]
    """Database nodes that do not hold what the primary holds, or did not tell."""
    back: int
    """Reads that went back in time: shown an older newest message than a read that had ended before they left."""
    redundant: float | None
    """Seconds from the end of the last healing until every server was healthy and every replica had caught up; None if
    they never were, or were not after an earlier healing, when the next fault came."""
    void: str
    """Why there is no verdict; "" when there is one."""

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """Reads and writes."""
        return self.reads, self.writes


def check(record: Record) -> Verdict:
    """Judge a record."""
    truth = next((stored for stored in record.stored if stored.role == "primary"), None)
    held = held_by(truth)
    return Verdict(
        reads=felt_by(record, "read"),
        writes=felt_by(record, "write"),
        lost=lost(record, truth) if truth else (),
        twice=tuple(text for text, times in held.items() if times > 1),
        resolved=sum(write.text in held for write in record.of("write", "unknown")),
        refused_but_stored=sum(write.text in held for write in record.of("write", "failed")),
        differing=differing(record, truth) if truth else (),
        back=went_back(record.of("read", "ok")),
        redundant=redundant(record),
        void=void(record, truth),
    )


def felt_by(record: Record, kind: str) -> Stream:
    """One kind of requests."""
    requests = record.of(kind)
    outages = [*outages_of(requests), *silences(requests)]
    ends = [(outage.end if outage.end is not None else record.end) - outage.begin for outage in outages]
    rate = record.begin.reads if kind == "read" else record.begin.writes
    hurt = [request for request in requests if request.outcome != "ok" or request.latency > SLOW]
    latencies = sorted(request.latency for request in requests if request.outcome != "failed")
    return Stream(
        kind=kind,
        sent=len(requests),
        failed=len(record.of(kind, "failed")),
        unknown=len(record.of(kind, "unknown")),
        gap=max(ends, default=0.0),
        until_healed=any(down_at(heal.at, outages, requests) for heal in record.heals),
        felt=len(hurt) / rate if rate else 0.0,
        p50=quantile(latencies, 0.5),
        p99=quantile(latencies, 0.99),
        slowest=quantile(latencies, 1.0),
        down_at_end=any(outage.end is None for outage in outages),
    )


def outages_of(requests: Sequence[Request]) -> Iterator[Outage]:
    """From the last success before a failure to the first of a row of three or more after it, as they were due.

    The first of the row is the one that ended first: those due before it may have been held up.
    """
    successes = sorted(request.end for request in requests if request.outcome == "ok")
    first_bad: Request | None = None
    for well, several in itertools.groupby(requests, lambda request: request.outcome == "ok"):
        row = list(several)
        if not well:
            first_bad = first_bad or row[0]
        elif first_bad and len(row) >= RECOVERED:
            yield Outage(last_before(successes, first_bad.due), min(success.end for success in row))
            first_bad = None
    if first_bad:
        yield Outage(last_before(successes, first_bad.due), None)


def last_before(successes: Sequence[float], moment: float) -> float:
    """The last success that had ended by then; the moment itself if there was none."""
    index = bisect.bisect_right(successes, moment)
    return successes[index - 1] if index else moment


def silences(requests: Sequence[Request]) -> Iterator[Outage]:
    """The times between one success and the next; a stall that nobody's request failed in shows here."""
    ends = sorted(request.end for request in requests if request.outcome == "ok")
    for sooner, later in itertools.pairwise(ends):
        yield Outage(sooner, later)


def down_at(moment: float, outages: Sequence[Outage], requests: Sequence[Request]) -> bool:
    """There was an outage at a moment, and somebody who came in it had been waiting or turned away for SLOW.

    Where requests are rare, the time between two of them is no outage, however long it is.
    """
    return any(
        outage.begin <= request.due < moment - SLOW
        for outage in outages
        if outage.lasts_over(moment)
        for request in requests
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of ordered values; 0 of none."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0


def held_by(stored: Stored | None) -> Counter[str]:
    """How often a node holds each message."""
    return Counter(text for _, text in stored.messages) if stored else Counter()


def lost(record: Record, truth: Stored) -> tuple[str, ...]:
    """Acknowledged writes that are missing."""
    there = set(truth.messages)
    return tuple(write.text for write in record.of("write", "ok") if (write.id, write.text) not in there)


def differing(record: Record, truth: Stored) -> tuple[str, ...]:
    """The database nodes of the stage of which it isn't known that they hold the same."""
    same = {stored.node for stored in record.stored if sorted(stored.messages) == sorted(truth.messages)}
    nodes = {*stage_of(str(record.begin.stage)).databases, *(stored.node for stored in record.stored)}
    return tuple(sorted(nodes - same))


def went_back(reads: Sequence[Request]) -> int:
    """Reads that show an older newest message than one that had ended before they left."""
    ended = sorted((read.end, read.newest) for read in reads)
    moments = [end for end, _ in ended]
    seen: list[int] = []
    for _, newest in ended:
        seen.append(max(newest, seen[-1] if seen else 0))
    before = ((read, bisect.bisect_left(moments, read.sent)) for read in reads)
    return sum(index > 0 and read.newest < seen[index - 1] for read, index in before)


def redundant(record: Record) -> float | None:
    """When everything was back after the last healing, in seconds; see Verdict."""
    for heal in record.heals[:-1]:
        following = min((fault.at for fault in record.faults if fault.at >= heal.done), default=record.end)
        if not any(heal.done <= at <= following for at in record.redundant):
            return None
    last = last_act(record)
    return next((at - last for at in reversed(record.redundant) if at >= last), None)


def last_act(record: Record) -> float:
    """When the last fault or healing was done."""
    return max((moment.done for moment in (*record.faults, *record.heals)), default=0.0)


def void(record: Record, truth: Stored | None) -> str:
    """Why this record can carry no verdict, if it can't."""
    if not record.faults:
        return "nothing was broken"
    if not record.heals or record.heals[-1].at < record.faults[-1].at:
        return "the drill was interrupted before the fault was undone"
    if record.cpu is None:
        return "the visitor did not end as it should"
    for kind, rate in (("read", record.begin.reads), ("write", record.begin.writes)):
        if rate and (lack := lacking(record, kind, rate)):
            return lack
    late = [request for request in record.requests if request.sent - request.due > LATE]
    if len(late) > LATE_SHARE * len(record.requests):
        return (
            f"the visitor could not keep its schedule: {len(late)} of {len(record.requests)} requests left more than "
            f"{LATE} s late; this machine was too busy"
        )
    primaries = [stored.node for stored in record.stored if stored.role == "primary"]
    if len(primaries) > 1:
        return f"several nodes say that they are the primary: {', '.join(primaries)}"
    if record.begin.writes and truth is None:
        return "no primary told what it holds"
    if strange := held_by(truth).keys() - {write.text for write in record.of("write")}:
        return f"the primary holds {len(strange)} writes of which the record knows nothing"
    return ""


def lacking(record: Record, kind: str, rate: float) -> str:
    """What is missing of one kind of requests; "" if it is there from before the first fault to after the last healing.

    Each was due at its time, so that one which left no trace leaves a hole.
    """
    requests = record.of(kind)
    if not requests:
        return f"there is no {kind}"
    first, last = requests[0].due, requests[-1].due
    if first > record.faults[0].at:
        return f"there is no {kind} before the fault"
    if last < record.heals[-1].done:
        return f"there is no {kind} after the healing"
    if holes := round((last - first) * rate) + 1 - len(requests):
        return f"{abs(holes)} {kind}s {'are missing from the record' if holes > 0 else 'are too many for the rate'}"
    return ""


def sentence(verdict: Verdict) -> str:
    """The verdict in words."""
    if verdict.void:
        return f"void: {verdict.void}"
    parts = [told(stream) for stream in verdict.streams if stream.sent]
    if verdict.writes.sent:
        acknowledged = verdict.writes.sent - verdict.writes.bad
        lost = f"acknowledged writes lost: {len(verdict.lost)} of {acknowledged:,}"
        parts.append(f"{lost}, applied twice: {len(verdict.twice)}")
    if verdict.writes.unknown:
        parts.append(f"of {verdict.writes.unknown} writes of unknown outcome {verdict.resolved} had happened")
    if verdict.refused_but_stored:
        parts.append(f"of {verdict.writes.failed} refused ones {verdict.refused_but_stored} had happened")
    if verdict.differing:
        parts.append(f"not holding what the primary holds: {', '.join(verdict.differing)}")
    if verdict.back:
        parts.append(f"reads that went back in time: {verdict.back}")
    parts.append(
        "redundancy was not back" if verdict.redundant is None else f"redundancy back after {verdict.redundant:.1f} s"
    )
    return ";\n".join(parts)


def told(stream: Stream) -> str:
    """One stream in words."""
    down = ", down until it was healed" if stream.until_healed else ""
    return (
        f"{stream.kind}s: {stream.bad:,} of {stream.sent:,} failed{down}, longest gap {stream.gap:.2f} s; "
        f"p50 {1000 * stream.p50:.0f} ms, p99 {stream.p99:.2f} s, slowest {stream.slowest:.2f} s"
    )
