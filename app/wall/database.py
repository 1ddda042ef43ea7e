"""Reading and writing: picks the node, keeps the time budget, and repeats what is safe to repeat.

A read costs at most 1.5 s a node plus 0.5 s to connect, and tries two nodes: 4 s. A write waits
3 s for a statement, and is repeated only if it failed within its first second. While a primary
hands its part over, which takes a second, writes wait for the next one. Connections are pooled
per node; a node that fails, or is the primary no longer, loses its pool.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, Engine, Executable, Row, create_engine, event
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeout,
)

from wall import logs, metrics
from wall.settings import Settings
from wall.topology import HANDOVER_WITHIN, MySQLProbe, Topology

log = logging.getLogger(__name__)
T = TypeVar("T")
AnyRow: TypeAlias = Row[*tuple[Any, ...]]

CONNECT_TIMEOUT = 0.5
READ_TIMEOUT = 1.5
WRITE_TIMEOUT = 3.0
LOCK_TIMEOUT = 2  # below WRITE_TIMEOUT, so that the server gives up first and says why
REPEAT_WRITE_WITHIN = 1.0
FIND_NODE_WITHIN = 1.0

NO_SUCH_TABLE = 1146  # a node that is still being filled
READ_ONLY = {1290, 1836}  # a node that is the primary no longer; it has stored nothing, at COMMIT either
LOCK_WAIT_TIMEOUT, DEADLOCK = 1205, 1213
QUERY_TIMEOUT = 3024

# The nodes that served the current request, in order; set by the application for each request.
nodes_used: ContextVar[list[str] | None] = ContextVar("nodes_used", default=None)


class Unavailable(Exception):  # noqa: N818 - a state of the tier, not a mistake
    """No database node can do this now; asking again in `retry_after` seconds may help."""

    retry_after = 5


class WritesHeld(Unavailable):
    """No node accepts writes; nothing was stored."""


class Busy(Unavailable):
    """Another transaction holds what this one needs; nothing was stored."""

    retry_after = 1


class OutcomeUnknown(Unavailable):
    """The connection broke while committing: the change may or may not have been stored."""


def _code(error: DBAPIError) -> int:
    """MySQL's number of the error, 0 if it has none."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def _is_about_the_node(error: DBAPIError) -> bool:
    """Whether another node, or the same a moment later, may do better. The rest are our bugs."""
    if isinstance(error, ProgrammingError):
        return _code(error) == NO_SUCH_TABLE
    return isinstance(error, OperationalError | InterfaceError | InternalError)


class Database:
    """One engine a node for reading and one for writing; `topology` says which to take."""

    def __init__(
        self,
        topology: Topology,
        readers: Mapping[str, Engine],
        writers: Mapping[str, Engine],
    ) -> None:
        self.topology = topology
        self._readers = readers
        self._writers = writers
        self._last_writer: str | None = None

    @classmethod
    def connect(cls, settings: Settings) -> Database:
        """Engines and monitors for the nodes of `settings`; opens no connection yet."""
        topology = Topology(
            {name: MySQLProbe(name, settings.db_port, settings.monitoring_password) for name in settings.db_nodes},
            max_lag=settings.db_max_lag,
        )

        def engine(name: str, timeout: float, setup: str, **options: Any) -> Engine:
            made = create_engine(
                URL.create(
                    "mysql+pymysql",
                    username="app",
                    password=settings.app_password,
                    host=name,
                    port=settings.db_port,
                    database=settings.db_name,
                ),
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT,
                    "read_timeout": timeout,
                    "write_timeout": timeout,
                    "charset": "utf8mb4",
                    "init_command": setup,
                    "ssl_disabled": True,  # clear text behind the balancer until stage 4
                },
                pool_size=settings.threads,
                max_overflow=0,
                pool_timeout=1.0,
                pool_recycle=600,
                pool_reset_on_return=None,  # we end every transaction; saves a round trip
                skip_autocommit_rollback=True,
                hide_parameters=True,  # in an error, and so in a log: password hashes, tokens
                **options,
            )

            @event.listens_for(made, "do_connect")
            def use_known_address(_d: Any, _r: Any, _a: Any, parameters: dict[str, Any]) -> None:
                node = topology.snapshot.node(name)
                parameters["host"] = (node.address if node else None) or name

            metrics.count_queries(made, name)
            logs.comment_queries(made)
            return made

        return cls(
            topology,
            readers={
                name: engine(
                    name,
                    READ_TIMEOUT,
                    f"SET SESSION max_execution_time = {int(READ_TIMEOUT * 1000)}",
                    isolation_level="AUTOCOMMIT",  # one statement, one round trip
                )
                for name in settings.db_nodes
            },
            writers={
                name: engine(name, WRITE_TIMEOUT, f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT}")
                for name in settings.db_nodes
            },
        )

    def read(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        newest: bool = False,
    ) -> Sequence[AnyRow]:
        """Run one SELECT on the best node, or on the next best if that fails. Raises Unavailable.

        `newest` asks the primary first, for what was written a moment ago.
        """
        failed: str | None = None
        for _ in range(2):
            name = self._pick_reader(newest, failed)
            try:
                with self._readers[name].connect() as connection:
                    rows = connection.execute(statement, parameters).all()
            except PoolTimeout as error:
                raise Unavailable from error
            except DBAPIError as error:
                if not _is_about_the_node(error):
                    raise
                failed = name
                if _code(error) != QUERY_TIMEOUT:  # slow is not dead
                    self._leave_out(name, self._readers, error)
                continue
            self._note(name)
            return rows
        raise Unavailable(f"the last node that was asked, {failed}, failed")

    def read_primary(self, statement: Executable) -> Sequence[AnyRow]:
        """Run one SELECT on the primary and nowhere else, for what only it can rule out.

        Raises WritesHeld, which means as well that nobody can tell.
        """
        return self.write(lambda connection: connection.execute(statement).all(), repeatable=True)

    def write(self, work: Callable[[Connection], T], *, repeatable: bool = False) -> T:
        """Run `work` in one transaction on the primary and return what it returns.

        What fails before COMMIT was sent left nothing behind and is run once more, if there is
        time, on the primary as it is then. What fails during COMMIT is run again only if it is
        `repeatable`, that is, harmless when it had been stored after all; else OutcomeUnknown.
        A node that says it is read only has stored nothing: that is not counted as a try.
        Raises WritesHeld, Busy or OutcomeUnknown; whatever `work` raises rolls back and passes.
        """
        begun = time.monotonic()
        failure: Unavailable | None = None
        tries = 0
        while tries < 2:
            name = self._pick_writer(failure)
            committing = False
            try:
                with self._writers[name].connect() as connection:
                    result = work(connection)
                    committing = True
                    connection.commit()
            except PoolTimeout as error:
                raise Busy from error
            except DBAPIError as error:
                if not _is_about_the_node(error):
                    raise
                code = _code(error)
                if code in READ_ONLY and time.monotonic() - begun < HANDOVER_WITHIN:
                    self._leave_out(name, self._writers, error)
                    failure = WritesHeld(str(error.orig))
                    continue
                tries += 1
                if code == LOCK_WAIT_TIMEOUT:
                    raise Busy from error
                if code == DEADLOCK:
                    failure = Busy(str(error.orig))
                else:
                    self._leave_out(name, self._writers, error)
                    committing &= code not in READ_ONLY
                    lost = committing and not repeatable
                    failure = (OutcomeUnknown if committing else WritesHeld)(str(error.orig))
                    if lost:
                        raise failure from error
                if time.monotonic() - begun > REPEAT_WRITE_WITHIN:
                    raise failure from error
                continue
            self._note(name)
            return result
        assert failure is not None
        raise failure

    def _pick_reader(self, newest: bool, failed: str | None) -> str:
        """The best node, `failed` only as the last resort.

        Waits for one only while an answer is due: at the start, and after a failure. What is
        known to be down stays a quick 503.
        """
        snapshot = self.topology.snapshot
        if not snapshot.readers() and not snapshot.settled:
            snapshot = self.topology.wait(lambda s: s.settled or bool(s.readers()), FIND_NODE_WITHIN)
        names = snapshot.readers(newest=newest)
        if not names:
            raise Unavailable("no database node answers")
        return names[0] if names[0] != failed else names[-1]

    def _pick_writer(self, failure: Unavailable | None) -> str:
        """The primary. Waits for one as `_pick_reader` does, and while one hands over to the next."""
        snapshot = self.topology.snapshot
        if snapshot.writer is None and not snapshot.settled:
            snapshot = self.topology.wait(lambda s: s.settled or s.writer is not None, FIND_NODE_WITHIN)
        if snapshot.writer is None and snapshot.handing_over:
            within = snapshot.handover_until - time.monotonic()
            snapshot = self.topology.wait(lambda s: s.writer is not None or not s.handing_over, within)
        if snapshot.writer is None:
            raise failure or WritesHeld("no database node accepts writes")
        last, self._last_writer = self._last_writer, snapshot.writer
        if last is not None and last != snapshot.writer:
            self._writers[last].dispose()  # no connection to it is ever used for a write again
        return snapshot.writer

    def _leave_out(self, name: str, engines: Mapping[str, Engine], error: DBAPIError) -> None:
        log.warning("database node %s failed: %s", name, error.orig)
        self.topology.suspect(name)
        engines[name].dispose()

    def _note(self, name: str) -> None:
        used = nodes_used.get()
        if used is not None and (not used or used[-1] != name):
            used.append(name)
