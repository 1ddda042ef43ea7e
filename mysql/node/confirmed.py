"""Whether a replica confirms what the primary writes, and what is done when none does (DB_WITHOUT_REPLICA=go-on).

mysqld itself waits for as long as it takes (../semi-sync.cnf). To go on alone is decided here, so that word of it is on
the disk before the first write is acknowledged that no other disk has. A thread of its own looks: the controller may
wait a second for a peer that is frozen, and the application gives a statement 3 s.
Read next: ../../docs/decisions/semi-synchronous.md. Used on stage 3.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pymysql

from node import statements
from node.orders import Orders
from node.server import Server

ALONE_AFTER = 2.0
"""Seconds that a commit waits for the word of a replica that is connected; one that is gone is not waited for."""
LOOK_SECONDS = 0.25


class Confirmation:
    """Semi-synchronous replication as it is switched, and the note of it; together, whoever asks."""

    def __init__(self, server: Server, orders: Orders) -> None:
        self._server, self._orders = server, orders
        self._together = threading.Lock()
        self._connection: pymysql.connections.Connection[pymysql.cursors.Cursor] | None = None
        self._silent, self._confirmed = 0, ""

    def watch(self) -> None:
        """For as long as the process lives."""
        threading.Thread(target=self._watch, name="confirmation", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            # mysqld is away, or the disk is full: nothing is acknowledged alone meanwhile.
            with suppress(pymysql.MySQLError, OSError, RuntimeError, ValueError):
                self.look()

    def look(self) -> None:
        """Go on alone, when a commit waits in vain; first of all the note."""
        with self._together:
            found = self._ask()
            waiting = found.get("status") == "ON" and found["wait_sessions"] != "0"
            progress, self._confirmed = found.get("yes_tx", "") != self._confirmed, found.get("yes_tx", "")
            gone = found.get("status") == "ON" and found["clients"] == "0"
            self._silent = self._silent + 1 if waiting and not progress else 0
            # Counted in looks, not by the clock: a machine that stood still has not heard from the replica either.
            if gone or self._silent * LOOK_SECONDS >= ALONE_AFTER:
                self._orders.note_alone(True)
                self._server.execute(statements.go_on_alone() if gone else statements.wait_for_nobody())
                self._silent = 0

    def _ask(self) -> dict[str, str]:
        """By the last words of their names; nothing of a node that is not to be confirmed, a replica or alone."""
        try:
            if self._connection is None:
                self._connection = self._server.connect(ALONE_AFTER)
            with self._connection.cursor() as cursor:
                cursor.execute(statements.CONFIRMED)
                return {name.removeprefix("Rpl_semi_sync_source_"): value for name, value in cursor.fetchall()}
        except (pymysql.MySQLError, OSError, RuntimeError, ValueError):
            self._connection = None
            raise

    def note(self) -> None:
        """Somebody switched it off by hand."""
        with self._together:
            self._orders.note_alone(True)

    def again(self) -> None:
        """A replica is there that has caught up: from now on commits wait for it."""
        with self._together:
            self._server.execute(statements.wait_again())

    def settle(self) -> None:
        """A replica has everything that was acknowledged alone; no more is, if commits wait whoever is connected."""
        with self._together:
            if not self._orders.alone:
                return
            found = self._ask()
            if found.get("waits") == "OFF":  # mysqld has begun again by itself
                self._server.execute(statements.wait_again())
            elif found:
                self._orders.note_alone(False)
