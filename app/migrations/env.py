"""Alembic's entry: runs the steps on the connection that wall/migrate.py gives, or, called by the
`alembic` command, on the primary it finds in the same way.

https://alembic.sqlalchemy.org/en/latest/tutorial.html
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection
from wall.migrate import find_primary
from wall.models import metadata
from wall.settings import read_migration_settings


def run(connection: Connection) -> None:
    """Run the steps that are due."""
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with find_primary(read_migration_settings()).connect() as found:
        run(found)
