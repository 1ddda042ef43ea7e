"""One mysqld: its process, its data folders, and the administrator's connection to it.

What is on the volume, and what each folder means after an interruption at any moment:
    data        in use; always complete, for it only ever appears by a rename
    data.init   being initialised: started over
    data.clone  being copied: started over, unless it has an ORDER, which is written last
    data.old    replaced by a copy: removed
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pymysql

from node import statements
from node.settings import Settings
from node.statements import Statement

SOCKET = Path("/run/mysqld/mysqld.sock")
TICK_SECONDS = 0.1
DUMP_SECONDS = 60.0


class EndedError(Exception):
    """mysqld ended, or was told to; the container ends with the same status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"mysqld ended with status {status}")
        self.status = status


class Volume:
    """The data folders, and the steps that put a new one in place."""

    ORDER = "foobar-order"  # in a finished copy: whom to follow, or nothing, then forget all

    def __init__(self, root: Path) -> None:
        self.data, self.init = root / "data", root / "data.init"
        self.clone, self.old = root / "data.clone", root / "data.old"

    def tidy(self) -> bool:
        """Finish or undo what was interrupted; whether there is data."""
        if (self.clone / self.ORDER).exists():
            self.swap()
        for folder in (self.init, self.clone, self.old):
            shutil.rmtree(folder, ignore_errors=True)
        return self.data.exists()

    def finish_init(self) -> None:
        """Take the initialised folder into use."""
        self.init.rename(self.data)
        _sync(self.data.parent)

    def finish_clone(self, source: str) -> None:
        """Mark the copy as complete. `source`: whom it is to follow; empty: nobody."""
        order = self.clone / self.ORDER
        order.with_suffix(".new").write_text(source)
        _sync(order.with_suffix(".new"))
        order.with_suffix(".new").rename(order)
        _sync(self.clone)

    def swap(self) -> None:
        """Put the complete copy in the place of the data; mysqld must not run."""
        if self.data.exists():
            shutil.rmtree(self.old, ignore_errors=True)
            self.data.rename(self.old)
        self.clone.rename(self.data)
        _sync(self.data.parent)

    @property
    def order(self) -> str | None:
        """The order that came with the copy in use; None when it was carried out."""
        order = self.data / self.ORDER
        return order.read_text() if order.exists() else None

    def order_done(self) -> None:
        """The copy in use is an ordinary node's data from now on."""
        (self.data / self.ORDER).unlink()
        _sync(self.data)


def _sync(path: Path) -> None:
    """Survive power loss: the names in a folder are data too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Server:
    """The only child of process 1. Every wait goes through `wait`, which notices its end."""

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self._settings, self._volume = settings, volume
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def stop_on_signals(self) -> None:
        """Hand a stop on to mysqld at once, whatever this process is waiting for."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())

    def _stop(self) -> None:
        self._stopping = True
        if self._child:
            self._child.terminate()

    def initialise(self) -> None:
        """Fill an empty volume. A server that is stopped meanwhile starts over next time."""
        self._run(statements.initialise(self._volume.init))
        try:
            self.wait(lambda: False)
        except EndedError as end:
            if end.status or self._stopping:
                raise
        self._volume.finish_init()

    def start(self) -> None:
        """Run mysqld until it answers on its socket; crash recovery may take its time."""
        SOCKET.parent.mkdir(mode=0o755, exist_ok=True)
        name, data = self._settings.name, self._volume.data
        self._run(statements.serve(name, self._settings.server_id, data, semi_sync=self._settings.semi_sync))
        self.wait(self._answers)

    def restart_on_copy(self, source: str) -> None:
        """Take the finished copy into use. From its ORDER on, any interruption leads to it."""
        self._volume.finish_clone(source)
        if self._child:
            self._child.kill()  # a clean stop of data that is thrown away would take 3 s
            self._child.wait()
        self._volume.tidy()
        self.start()

    def execute(self, todo: Iterable[Statement], seconds: float = 15.0) -> None:
        """Run statements as administrator over the socket; pymysql.MySQLError when one fails."""
        with self.connect(seconds) as connection, connection.cursor() as cursor:
            for sql, arguments in todo:
                cursor.execute(sql, arguments)

    def disconnect(self, which: str, *, after: float = 0.0) -> None:
        """End the connections whose numbers this query gives; they have so many seconds to end by themselves."""
        with self.connect(5.0) as connection, connection.cursor() as cursor:
            self.wait(lambda: not cursor.execute(which), after)
            for (number,) in cursor.fetchall():
                with suppress(pymysql.MySQLError):  # it has just ended by itself
                    cursor.execute("KILL %s", (number,))

    def dump(self, gtids: str, into: Path) -> bool:
        """Write these of this node's transactions into a file; whether it could be done."""
        try:
            with into.open("wb") as file:
                command = statements.dump(self._volume.data, gtids)
                return subprocess.run(command, stdout=file, timeout=DUMP_SECONDS).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def feed(self, dumped: Path) -> bool:
        """Execute what `dump` wrote; whether all of it could be."""
        try:
            with dumped.open("rb") as file:
                return subprocess.run(statements.feed(), stdin=file, timeout=DUMP_SECONDS).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def wait(self, check: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `check` holds or `seconds` have passed; EndedError when mysqld ends first.

        The only place where the controller waits. It also collects orphans, as process 1 has to, and once a
        stop was asked for it waits for the end alone.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._stopping or not check():
            status = self._status()
            if status is not None:
                raise EndedError(status)
            if deadline is not None and not self._stopping and time.monotonic() >= deadline:
                return False
            left = TICK_SECONDS if deadline is None else max(0.01, deadline - time.monotonic())
            time.sleep(min(TICK_SECONDS, left))
        return True

    def _run(self, command: list[str]) -> None:
        if self._stopping:
            raise EndedError(0)
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if self._stopping:  # the signal came while there was no child to hand it to
            self._child.terminate()

    def _status(self) -> int | None:
        """The exit status as a shell would give it; None while mysqld runs."""
        assert self._child, "wait() needs a running mysqld"
        status = self._child.poll()
        self._reap()
        if status is None:
            return None
        return status if status >= 0 else 128 - status

    def _reap(self) -> None:
        """Collect processes that were left to process 1; mysqld's own status stays with Popen."""
        assert self._child
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == self._child.pid:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)

    def _answers(self) -> bool:
        try:
            self.connect(1.0).close()
        except pymysql.MySQLError:
            return False
        return True

    def connect(self, seconds: float) -> pymysql.connections.Connection[pymysql.cursors.Cursor]:
        """The administrator's connection; each of its statements has so many seconds."""
        return pymysql.connect(
            unix_socket=str(SOCKET),
            user="root",
            connect_timeout=5,
            read_timeout=seconds,
            write_timeout=seconds,
            autocommit=True,
        )
