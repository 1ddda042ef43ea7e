"""A few messages by the house, so that the wall isn't empty at first sight.

The house's account has no password that could match: its hash is none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

HOUSE = "foobar"
FIRST_MESSAGES = (  # oldest first
    "Welcome to www.foobar.com.\nThis is a wall: what you write here, everybody can read.",
    "Above, on every page, you see the way it came to you: through which web server, which "
    "application server, and from which database. Reload, and on some rungs it changes.",
    "What you post is written to the primary, the one database that accepts writes. "
    "What you read may come from a replica, a moment behind.",
    "Break something: kill a server while you read. Whether you notice depends on the rung.",
    "Make an account and say hello.",
)

accounts = sa.table(
    "accounts",
    sa.column("id", sa.BigInteger),
    sa.column("name", sa.String),
    sa.column("name_key", sa.String),
    sa.column("password_hash", sa.String),
    sa.column("created_at", sa.DateTime),
)
messages = sa.table(
    "messages",
    sa.column("account_id", sa.BigInteger),
    sa.column("body", sa.String),
    sa.column("created_at", sa.DateTime),
)


def upgrade() -> None:
    """Write them, in the same transaction as this step's number: all or none."""
    connection = op.get_bind()
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    house_account = {"name": HOUSE, "name_key": HOUSE, "password_hash": "!", "created_at": now}
    connection.execute(accounts.insert(), house_account)
    house = connection.scalar(sa.select(accounts.c.id).where(accounts.c.name_key == HOUSE))
    age = timedelta(minutes=len(FIRST_MESSAGES))
    connection.execute(
        messages.insert(),
        [
            {"account_id": house, "body": body, "created_at": now - age + timedelta(minutes=n)}
            for n, body in enumerate(FIRST_MESSAGES)
        ],
    )
