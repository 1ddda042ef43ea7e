"""Sets of global transaction identifiers: who has which transactions, without asking a server.

MySQL writes a set as `uuid:1-5:7,uuid2:1-3`, with optional tags (`uuid:1-5:tag:1-2`).
https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Interval = tuple[int, int]  # first and last transaction number, both included
Origin = tuple[str, str]  # server uuid and tag ("" when there is none)


@dataclass(frozen=True)
class GtidSet:
    """An immutable set; false when empty. `a - b`, `a | b` and `a >= b` are set arithmetic."""

    intervals: Mapping[Origin, tuple[Interval, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Read MySQL's notation (line breaks allowed); ValueError when it is something else."""
        found: dict[Origin, list[Interval]] = {}
        for part in "".join(text.split()).split(","):
            if not part:
                continue
            uuid, *items = part.lower().split(":")
            tag = ""
            for item in items:
                if not item[:1].isdigit():
                    tag = item
                    continue
                first, _, last = item.partition("-")
                found.setdefault((uuid, tag), []).append((int(first), int(last or first)))
            if not any(origin[0] == uuid for origin in found):
                raise ValueError(f"not a GTID set: {text!r}")
        return cls._of(found)

    @classmethod
    def _of(cls, found: Mapping[Origin, Iterable[Interval]]) -> GtidSet:
        merged = {origin: tuple(_merge(parts)) for origin, parts in sorted(found.items())}
        return cls({origin: parts for origin, parts in merged.items() if parts})

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __len__(self) -> int:
        """How many transactions."""
        return sum(last - first + 1 for parts in self.intervals.values() for first, last in parts)

    def __or__(self, other: GtidSet) -> GtidSet:
        origins = {*self.intervals, *other.intervals}
        return self._of({o: (*self.intervals.get(o, ()), *other.intervals.get(o, ())) for o in origins})

    def __sub__(self, other: GtidSet) -> GtidSet:
        return self._of({o: _subtract(p, other.intervals.get(o, ())) for o, p in self.intervals.items()})

    def __ge__(self, other: GtidSet) -> bool:
        """Whether this set has everything the other has."""
        return not other - self

    def __str__(self) -> str:
        """MySQL's notation, on one line."""
        words: dict[str, str] = {}
        for (uuid, tag), parts in self.intervals.items():
            numbers = ":".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
            words[uuid] = words.get(uuid, uuid) + (f":{tag}" if tag else "") + f":{numbers}"
        return ",".join(words.values())


def _merge(parts: Iterable[Interval]) -> Iterator[Interval]:
    """Sorted, without overlaps, neighbours joined."""
    current: Interval | None = None
    for first, last in sorted(parts):
        if current and first <= current[1] + 1:
            current = (current[0], max(current[1], last))
            continue
        if current:
            yield current
        current = (first, last)
    if current:
        yield current


def _subtract(parts: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    left = list(parts)
    for low, high in holes:
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if piece[0] <= piece[1]
        ]
    return left
