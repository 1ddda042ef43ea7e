"""Asking a node what it is: over TCP, as `monitoring`, within a second, never by its name."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pymysql
import pymysql.cursors
from pymysql.constants import ER

from node.decide import Down, Facts, Peer, Unknown
from node.gtid import GtidSet
from node.settings import PORT, SCHEMA
from node.statements import ASK

CONNECT_SECONDS = 0.7
ANSWER_SECONDS = 1.0

# Replication errors that asking again cannot mend, because the data is not what it should be.
_RECEIVER_FATAL = 13114
_APPLIER_CONFLICTS = {
    ER.DUP_ENTRY,  # a row that should not be here
    ER.KEY_NOT_FOUND,  # a row that should
    ER.NO_SUCH_TABLE,
    ER.TABLE_EXISTS_ERROR,
    ER.BAD_TABLE_ERROR,
    ER.BAD_DB_ERROR,
    ER.DB_CREATE_EXISTS,
}

Row = Mapping[str, Any]
Connection: TypeAlias = "pymysql.connections.Connection[pymysql.cursors.DictCursor]"


class Peers:
    """Keeps one connection a node, for a login costs more than the question."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._connections: dict[str, Connection] = {}

    def ask(self, name: str, host: str = "") -> Peer:
        """What `name` says of itself, or why it says nothing."""
        try:
            if name not in self._connections:
                self._connections[name] = self._connect(host or name)
            with self._connections[name].cursor() as cursor:
                cursor.execute(ASK, (SCHEMA,))
                return facts(name, cursor.fetchone() or {})
        except (pymysql.MySQLError, OSError, RuntimeError, ValueError) as error:
            self._connections.pop(name, None)
            return silence(name, error, on_network=on_network())

    def forget(self, name: str) -> None:
        """Its mysqld was replaced; the connection to it is of no use."""
        self._connections.pop(name, None)

    def ask_all(self, names: tuple[str, ...]) -> list[Peer]:
        """All at once: one that is paused must not delay the others."""
        if not names:
            return []
        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(self.ask, names))

    def _connect(self, host: str) -> Connection:
        return pymysql.connect(
            host=host,
            port=PORT,
            user="monitoring",
            password=self._password,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            write_timeout=ANSWER_SECONDS,
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
        )


def facts(name: str, row: Row) -> Facts:
    """The answer to ASK, as what `decide` reasons about."""
    # A copy of a replica's data names its source, which may be the node that now holds it.
    source = row["source"] if row["source"] not in {None, "", name} else None
    return Facts(
        name=name,
        writable=not row["read_only"],
        locked=bool(row["super_read_only"]),
        executed=GtidSet.parse(row["executed"]),
        owned=GtidSet.parse(row["owned"]),
        purged=GtidSet.parse(row["purged"]),
        received=GtidSet.parse(row["received"] or ""),
        source=source,
        has_schema=bool(row["has_schema"]),
        term=row.get("term") or 0,
        # A node without the plugin has no such status, and promises nothing.
        alone=not row["read_only"] and row.get("confirmed") == "OFF",
        receiving=(row["receiver"] or "OFF") != "OFF",
        connected=row["receiver"] == "ON",
        applying=(row["applier"] or "OFF") != "OFF",
        trouble=trouble(row),
        fault=fault(row),
    )


def trouble(row: Row) -> str:
    """The errors of the replication threads, by number: the text counts attempts."""
    found = [
        f"{what} error {number}"
        for what, number in (
            ("receiver", row["receiver_errno"]),
            ("applier", row["applier_errno"]),
        )
        if number
    ]
    return ", ".join(found)


def fault(row: Row) -> str:
    """Why replication stopped for good, in words; empty while it can still go on by itself."""
    receiver_error = row["receiver_error"] or ""
    if row["receiver_errno"] == _RECEIVER_FATAL and "purged" in receiver_error:
        return "the source purged binary logs that are needed here"
    if row["applier"] != "ON" and row["applier_errno"] in _APPLIER_CONFLICTS:
        return f"its data is not the source's: error {row['applier_errno']} when applying"
    return ""


def silence(name: str, error: Exception, *, on_network: bool) -> Down | Unknown:
    """Tell "nothing listens there" from "no answer came", which proves nothing."""
    cause = getattr(error, "original_exception", error)
    if isinstance(cause, ConnectionRefusedError):
        return Down(name)
    if isinstance(cause, socket.gaierror):
        # A container that is not running has no name, unless it is this one that was cut off.
        # Without an upstream resolver "no such name" comes as "try again later".
        return Down(name) if on_network else Unknown(name, "cannot be asked: no network here")
    code = error.args[0] if error.args else None
    if code == ER.ACCESS_DENIED_ERROR:
        why = "refuses this node's password: it is starting, or its secrets differ (`make up`)"
    elif code == ER.CON_COUNT_ERROR:
        why = "has too many connections"
    elif isinstance(cause, OSError) and cause.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        why = "cannot be reached"
    else:
        why = "does not answer"
    return Unknown(name, why)


def on_network(routes: Callable[[], str] = Path("/proc/net/route").read_text) -> bool:
    """Whether this container has any network: one that was cut off has no route left."""
    return len(routes().splitlines()) > 1
