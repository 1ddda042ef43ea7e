"""Forged records: a clean one, and what spoils it.

In the clean one read n is due at n/10 s and ends 0.01 s later, write n is due at n/2 s and ends 0.02 s later, for 30 s.
The fault is at 5.0 s, undone from 17.5 to 18.0 s; everything is back at 20.0 s.
"""

from collections.abc import Iterable
from dataclasses import asdict, replace

from ladder.drills.record import Begin, Moment, Record, Request, Stored, line, request_line

RUN = "0123456789ab"
FAULT, HEAL = Moment(5.0, 5.5, "kill web1"), Moment(17.5, 18.0)
TWO_FAULTS = {
    "faults": (FAULT, Moment(14.0, 14.1)),
    "heals": (Moment(10.0, 10.5), HEAL),
    "redundant": (12.0, 20.0),
}
"""The second when everything is back from the first."""


def text(number: int) -> str:
    return f"{RUN} {number}"


def clean() -> Record:
    reads = [Request("read", n / 10, n / 10, n / 10 + 0.01, "ok", "new", 200, newest=n + 1) for n in range(300)]
    writes = [Request("write", n / 2, n / 2, n / 2 + 0.02, "ok", "new", 201, text=text(n), id=n + 1) for n in range(60)]
    messages = tuple((n + 1, text(n)) for n in range(60))
    return Record(
        begin=Begin(RUN, 1, "kill web1", 10.0, 2.0, 10.0, "2026-01-01T00:00:00+00:00"),
        requests=tuple(sorted([*reads, *writes], key=lambda request: request.due)),
        faults=(FAULT,),
        heals=(HEAL,),
        redundant=(20.0,),
        stored=(Stored("db1", "primary", messages), Stored("db2", "replica", messages)),
        cpu=0.4,
    )


def spoil(
    record: Record,
    kind: str,
    numbers: Iterable[int],
    *,
    outcome: str = "",
    latency: float = -1.0,
    end: float = -1.0,
    late: float = 0.0,
    newest: int = 0,
) -> Record:
    """Some requests by their numbers: another outcome, ended so late or at that time, left late, or showing that."""
    spoiled = {id(request) for number, request in enumerate(record.of(kind)) if number in set(numbers)}

    def of(request: Request) -> Request:
        ended = request.due + latency if latency >= 0 else end if end >= 0 else request.end + late
        outcome_ = outcome or request.outcome
        return replace(
            request,
            outcome=outcome_,
            sent=request.sent + late,
            end=ended,
            newest=newest or request.newest,
            id=request.id if outcome_ == "ok" else 0,
        )

    return replace(
        record, requests=tuple(of(request) if id(request) in spoiled else request for request in record.requests)
    )


def reads(numbers: Iterable[int], **fields: object) -> Record:
    """The clean record with some reads spoiled."""
    return spoil(clean(), "read", numbers, **fields)


def failing(*numbers: int) -> Record:
    return reads(numbers, outcome="failed")


def holding(record: Record, messages: dict[int, str], *nodes: str) -> Record:
    """With other content on some nodes."""
    stored = tuple(
        replace(node, messages=tuple(messages.items())) if node.node in nodes else node for node in record.stored
    )
    return replace(record, stored=stored)


def messages(*, without: int = -1, extra: dict[int, str] | None = None) -> dict[int, str]:
    """What is stored, but for one write, and something else."""
    return {n + 1: text(n) for n in range(60) if n != without} | (extra or {})


def lines_of(record: Record) -> list[str]:
    """A record as visitor and drill write it."""
    lines = [line("begin", **asdict(record.begin)), *map(request_line, record.requests)]
    lines += [line("phase", means=means) for means in record.phases]
    lines += [line("fault", **asdict(fault)) for fault in record.faults]
    lines += [line("heal", **asdict(heal)) for heal in record.heals]
    lines += [line("redundant", at=at) for at in record.redundant]
    if record.cpu is not None:
        lines.append(line("visitor", at=record.end, cpu=record.cpu))
    return lines + [line("stored", at=record.end, **asdict(node)) for node in record.stored]
