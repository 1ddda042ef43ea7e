"""The record of a drill: one JSON object a line, from which verdict and picture can be computed again.

The visitor writes its requests, the drill its faults and, at the end, what the databases hold. Every time is in
seconds since the drill's beginning, by one monotonic clock.

| event     | written by | fields beside `at` |
|-----------|------------|--------------------|
| begin     | drill      | what was to be done, where, at which rates: see `Begin` |
| phase     | drill      | `means`, its faults by the names of the nodes that had the roles then |
| request   | visitor    | what became of one request: see `Request` |
| fault     | drill      | `order`, as a user says it; `said`, what was done; `done`, when that was finished |
| heal      | drill      | `said`, `done` |
| redundant | drill      | nothing: every server is healthy and every replica has caught up |
| visitor   | visitor    | `cpu`, the seconds of a core that it took; only if it ended as it should |
| stored    | drill      | `node`, `role`, `messages`: the drill's own, [id, text] each |
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.errors import UserError

KINDS = ("read", "write")
OUTCOMES = ("ok", "failed", "unknown")


@dataclass(frozen=True)
class Begin:
    """What was to be done, and where."""

    run: str
    """Begins the text of every message of this drill."""
    stage: int
    faults: str
    """As a user says them: "kill web1", "partition replica and wipe primary", "kill web1 then kill web2"."""
    reads: float
    writes: float
    """Requests a second."""
    patience: float
    """Seconds until a visitor goes away."""
    started: str
    """By the clock on the wall, ISO 8601 in UTC."""
    commit: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Request:
    """What became of one request."""

    kind: str
    """read or write"""
    due: float
    """When it should have left; its latency counts from here."""
    sent: float
    """When it left."""
    end: float
    outcome: str
    """ok; failed: another answer, or it could not be sent; unknown: sent, and no answer came."""
    connection: str
    """new or kept"""
    status: int = 0
    served_by: str = ""
    newest: int = 0
    """Of a read: the highest id among the messages that it showed."""
    text: str = ""
    """Of a write: the message, which is also its Idempotency-Key."""
    id: int = 0
    """Of a write that was acknowledged: the message's."""
    said: str = ""
    """The beginning of an answer that wasn't ok, or the error."""

    @property
    def latency(self) -> float:
        """Seconds from when it should have left to its end."""
        return self.end - self.due

    def __str__(self) -> str:
        way = self.served_by or "?"
        return (
            f"{self.due:7.2f} s: {self.kind} {self.outcome} {self.status} in {self.latency:.2f} s by {way}: {self.said}"
        )


@dataclass(frozen=True)
class Moment:
    """A fault or a healing: from `at`, when it was begun, to `done`."""

    at: float
    done: float
    order: str = ""
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """What one database node holds of the drill's messages at the end."""

    node: str
    role: str
    messages: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Record:
    """All that is known of one drill."""

    begin: Begin
    requests: tuple[Request, ...] = ()
    """In the order in which they were due."""
    faults: tuple[Moment, ...] = ()
    heals: tuple[Moment, ...] = ()
    redundant: tuple[float, ...] = ()
    stored: tuple[Stored, ...] = ()
    cpu: float | None = field(default=None)
    """None: the visitor did not end as it should."""
    phases: tuple[str, ...] = ()
    """What was to be done, each time, with the role that every database and balancer that is named had then."""

    def of(self, kind: str, *outcomes: str) -> list[Request]:
        """The requests of a kind, and of some outcomes if any are given."""
        return [r for r in self.requests if r.kind == kind and (not outcomes or r.outcome in outcomes)]

    @property
    def means(self) -> str:
        """All faults, in roles: "kill db2" may mean "kill replica". As they were named, if none was done."""
        return " then ".join(self.phases) or self.begin.faults

    @cached_property
    def end(self) -> float:
        """When the last request ended."""
        return max((request.end for request in self.requests), default=0.0)


def line(event: str, **fields: Any) -> str:
    """One line of a record."""
    return json.dumps({"event": event, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n"


def request_line(request: Request) -> str:
    """The same for a request; what is empty is left out."""
    fields = asdict(request)
    times = {name: round(fields.pop(name), 4) for name in ("due", "sent", "end")}
    return line("request", **times, **{name: value for name, value in fields.items() if value not in ("", 0)})


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        UserError: it is not there, or not a record, with the line.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return parse(lines)
    except OSError as error:
        raise UserError(f"the record can't be read: {error}. Records of drills are in .ladder/drills/") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of a drill: {error}") from error


def parse(lines: Iterable[str]) -> Record:
    """Read the lines of a record. A last line without its end, of a visitor that was killed, is left out.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    events: dict[str, list[Any]] = {name: [] for name in EVENTS}
    for number, text in enumerate(lines, 1):
        if not text.endswith("\n"):
            break
        try:
            fields = json.loads(text)
            event = fields.pop("event")
            events[event].append(EVENTS[event](fields))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"line {number}: {error!r}") from error
    if len(events["begin"]) != 1:
        raise ValueError("it has no beginning, or several")
    return Record(
        begin=events["begin"][0],
        requests=tuple(sorted(events["request"], key=lambda each: each.due)),
        faults=tuple(events["fault"]),
        heals=tuple(events["heal"]),
        phases=tuple(events["phase"]),
        redundant=tuple(events["redundant"]),
        stored=tuple(events["stored"]),
        cpu=next(iter(events["visitor"]), None),
    )


def begin(fields: dict[str, Any]) -> Begin:
    """The beginning from its line.

    Raises:
        ValueError, TypeError: it is none.
    """
    found = Begin(**fields)
    return replace(found, reads=float(found.reads), writes=float(found.writes), patience=float(found.patience))


def request(fields: dict[str, Any]) -> Request:
    """A request from its line, in which what is empty was left out.

    Raises:
        ValueError, TypeError: it is not one.
    """
    found = Request(**fields)
    if found.kind not in KINDS or found.outcome not in OUTCOMES or found.latency < 0:
        raise ValueError(f"not a request: {fields}")
    return found


def moment(fields: dict[str, Any]) -> Moment:
    """A fault or a healing from its line."""
    return Moment(fields["at"], fields["done"], fields.get("order", ""), tuple(fields["said"]))


def stored(fields: dict[str, Any]) -> Stored:
    """What a node holds, from its line."""
    return Stored(fields["node"], fields["role"], tuple((ident, text) for ident, text in fields["messages"]))


EVENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "begin": begin,
    "request": request,
    "fault": moment,
    "heal": moment,
    "phase": lambda fields: fields["means"],
    "redundant": lambda fields: fields["at"],
    "visitor": lambda fields: fields["cpu"],
    "stored": stored,
}
"""How each kind of line is read."""
