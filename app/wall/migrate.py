"""The migration job: find the primary, wait for it if need be, bring the schema up to date.

Run by `python -m wall.migrate`, alone or by two at once (GET_LOCK lets one in), again and again.
Ends with 0 when the schema is current, else with 1 and a sentence. Steps are in migrations/.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from wall.settings import MigrationSettings, SettingsError, read_migration_settings

log = logging.getLogger("migrate")

WAIT_FOR_PRIMARY = 120.0
ASK_EVERY = 1.0
SAY_EVERY = 10.0
LOCK_TIMEOUT = 60
TABLE_TIMEOUT = 1
"""Seconds that a step waits for a table which visitors' transactions are using. Whatever comes after it waits behind
it, and an answer has six seconds (docs/timeouts.md). Default: a year."""
TABLE_TRIES = 20
TABLE_PAUSE = 1.0
"""Seconds between two tries, for those who waited. All tries end within 40 s, before a deploy gives up (120 s)."""
LOCK_WAIT_TIMEOUT = 1205
"""MySQL's number for that error."""
INI = Path(__file__).parent.parent / "alembic.ini"


class MigrationError(Exception):
    """The message says why, and what to look at."""


def migrate(settings: MigrationSettings) -> None:
    """Upgrade the schema on the primary. Raises MigrationError."""
    engine = find_primary(settings)
    with engine.connect() as connection:
        if not connection.scalar(text(f"SELECT GET_LOCK('wall.migrate', {LOCK_TIMEOUT})")):
            raise MigrationError(f"another migration has been running for {LOCK_TIMEOUT} s; look at its log")
        connection.execute(text(f"SET SESSION lock_wait_timeout = {TABLE_TIMEOUT}"))
        connection.rollback()  # ends the read, keeps the lock and the setting, which live as long as we
        upgrade_patiently(connection)


def upgrade_patiently(connection: Connection) -> None:
    """Upgrade; where a table is in use for too long, let those pass who waited behind us, and try again.

    Raises:
        MigrationError: it was in use at every try.
    """
    for turn in range(1, TABLE_TRIES + 1):
        try:
            upgrade(connection)
        except DBAPIError as error:
            if not (error.orig and error.orig.args[:1] == (LOCK_WAIT_TIMEOUT,)):
                raise
            connection.rollback()
            log.info("a table is in use, try %d of %d: %s", turn, TABLE_TRIES, error.orig.args[-1])
            time.sleep(TABLE_PAUSE)
        else:
            return
    raise MigrationError(
        f"a table that is to be changed was in use at each of {TABLE_TRIES} tries; "
        "look for a transaction that stays open (SHOW PROCESSLIST), then run the job again"
    )


def upgrade(connection: Connection) -> None:
    """Run the steps of migrations/ that this database hasn't seen. A later version's schema is left as it is."""
    config = Config(INI)
    if later := unknown(connection, ScriptDirectory.from_config(config)):
        log.info("the schema is of a later version (step %s), which this one can live with", ", ".join(later))
        return
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def unknown(connection: Connection, steps: ScriptDirectory) -> list[str]:
    """The steps that this database is at and we don't know: of a version that was taken back, its migration stays."""
    at = MigrationContext.configure(connection).get_current_heads()
    connection.rollback()  # or Alembic would leave the commit to us
    found = []
    for step in at:
        try:
            steps.get_revision(step)
        except CommandError:
            found.append(step)
    return found


def find_primary(settings: MigrationSettings, within: float = WAIT_FOR_PRIMARY) -> Engine:
    """An engine for the one node that accepts writes. Raises MigrationError after `within` s."""
    engines = {name: _engine(settings, name) for name in settings.db_nodes}
    deadline = time.monotonic() + within
    said, say_again = "", 0.0
    while True:
        answers = {name: _ask(engine) for name, engine in engines.items()}
        writable = [name for name, answer in answers.items() if answer == "accepts writes"]
        if len(writable) == 1:
            log.info("%s is the primary", writable[0])
            return engines[writable[0]]
        summary = "; ".join(f"{name}: {answer}" for name, answer in answers.items())
        now = time.monotonic()
        if now > deadline:
            raise MigrationError(
                f"no single database node accepted writes within {within:.0f} s ({summary}); "
                "look at the logs of the database nodes"
            )
        if summary != said or now > say_again:
            log.info("waiting for the primary, %.0f s left; %s", deadline - now, summary)
            said, say_again = summary, now + SAY_EVERY
        time.sleep(ASK_EVERY)


def _engine(settings: MigrationSettings, name: str) -> Engine:
    return create_engine(
        URL.create(
            "mysql+pymysql",
            username="migration",
            password=settings.password,
            host=name,
            port=settings.db_port,
            database=settings.db_name,
        ),
        connect_args={"connect_timeout": 2, "charset": "utf8mb4", "ssl_disabled": True},
        poolclass=NullPool,
    )


def _ask(engine: Engine) -> str:
    """What a node says of itself, in words for the log."""
    try:
        with engine.connect() as connection:
            held = connection.scalar(text("SELECT @@read_only OR @@super_read_only"))
    except DBAPIError as error:
        return str(error.orig.args[-1] if error.orig and error.orig.args else error)
    return "read-only" if held else "accepts writes"


def main() -> int:
    """The job's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        migrate(read_migration_settings())
    except (SettingsError, MigrationError) as error:
        log.error("%s", error)
        return 1
    except DBAPIError as error:
        log.error("the database failed; run the job again: %s", error.orig)
        return 1
    log.info("the schema is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
