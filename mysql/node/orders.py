"""Orders of a person, by `make promote`: who is to be the primary. They stand on the volume, and outlive any death.

Written by ../tell, or by the engine while the node is dead.

One line, the same for every node: who leads, the number of this promotion (its term), and the transactions that the
leader must have before it opens. The node that is named takes over; any other closes and follows it. A node that was
dead finds its order before it does anything else, so that a former primary never opens again by mistake.

Files on the volume:
    order       to be carried out; a node with one does nothing else
    order.done  the answer to it: whom it named, its promotion, and the transactions that the node had then
    order.last  the last one that stood here: no promotion may have its number again (ladder/promote.py)
    rescue.sql  transactions of a former primary that the new one did not get from it, to be executed first
    alone       this node, the primary, acknowledges writes that no replica has confirmed
    behind      this node was started, and threw away what it had received and not executed (relay_log_recovery in
                ../my.cnf), or was filled by a clone, and may have confirmed more than it has; until a primary has sent
                it everything
    discarded/  transactions that were thrown away by a clone, kept for a person
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from node.gtid import GtidSet


@dataclass(frozen=True)
class Order:
    """`leader` is to be the primary, after these transactions."""

    leader: str
    term: int
    after: GtidSet = field(default_factory=GtidSet)

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read a whole line; ValueError when it is none."""
        words = text.split()
        if not text.endswith("\n") or len(words) not in {2, 3}:
            raise ValueError(f"not an order: {text!r}")
        return cls(words[0], int(words[1]), GtidSet.parse("".join(words[2:])))

    def __str__(self) -> str:
        return " ".join(filter(None, (self.leader, str(self.term), str(self.after))))


class Orders:
    """The files of orders."""

    def __init__(self, root: Path) -> None:
        self._order, self._done, self._last = root / "order", root / "order.done", root / "order.last"
        self._alone, self._behind = root / "alone", root / "behind"
        self.rescue, self.discarded = root / "rescue.sql", root / "discarded"

    @property
    def given(self) -> bool:
        """There is one to be carried out."""
        return self._order.exists()

    def read(self) -> Order | None:
        """The order; None when it can't be read."""
        return _read(self._order)

    def answer(self, order: Order, executed: GtidSet) -> None:
        """What was asked for is so, and these are the node's transactions; whoever gave this order may go on."""
        _write(self._done, f"{order.leader} {order.term} {executed}\n")

    def done(self, order: Order) -> None:
        """It was carried out, or is out of date. One that came meanwhile stands."""
        try:
            self._order.rename(self._last)
        except FileNotFoundError:  # it was withdrawn
            return
        if _read(self._last) == order:
            self.rescue.unlink(missing_ok=True)
        else:
            self._last.rename(self._order)

    def note_alone(self, alone: bool) -> None:
        """Leave word, for whoever finds this volume after a death, that a replica may lack what was acknowledged."""
        _note(self._alone, alone)

    @property
    def alone(self) -> bool:
        """Word was left."""
        return self._alone.exists()

    def note_behind(self, behind: bool) -> None:
        """Leave word that this node may lack what it had confirmed."""
        _note(self._behind, behind)

    @property
    def behind(self) -> bool:
        """Word was left."""
        return self._behind.exists()

    def keep_discarded(self) -> Path:
        """A new file for transactions that are about to be thrown away."""
        self.discarded.mkdir(mode=0o750, exist_ok=True)
        return self.discarded / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.sql"


def _note(file: Path, holds: bool) -> None:
    """Since when; or nothing."""
    if holds and not file.exists():
        _write(file, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
    elif not holds:
        file.unlink(missing_ok=True)


def _read(file: Path) -> Order | None:
    try:
        return Order.parse(file.read_text())
    except (OSError, ValueError):
        return None


def _write(file: Path, text: str) -> None:
    new = file.with_name(file.name + ".new")
    with new.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    new.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
