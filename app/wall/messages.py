"""The wall itself: reading pages of messages, and adding, changing and deleting one's own."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from werkzeug.exceptions import Forbidden, NotFound

from wall.database import AnyRow, Database
from wall.models import accounts, messages, now

LAST_ID = 2**63 - 1

_COLUMNS = (
    messages.c.id,
    messages.c.account_id,
    messages.c.body,
    messages.c.created_at,
    messages.c.edited_at,
    accounts.c.name.label("author"),
)
# STRAIGHT_JOIN: walk the messages by id and look authors up. Left alone, the optimizer may begin
# with a small table of accounts and sort every message for each page.
_PAGE = (
    select(*_COLUMNS)
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .join_from(messages, accounts, messages.c.account_id == accounts.c.id)
    .where(messages.c.id < bindparam("before"))
    .order_by(messages.c.id.desc())
    .limit(bindparam("rows"))
)
_ONE = (
    select(*_COLUMNS)
    .join_from(messages, accounts, messages.c.account_id == accounts.c.id)
    .where(messages.c.id == bindparam("message"))
)


def page(
    database: Database, *, before: int | None, limit: int, newest: bool = False
) -> tuple[Sequence[AnyRow], int | None]:
    """At most `limit` messages older than the id `before`, newest first.

    And the `before` of the next page, None on the last: one row more than asked tells.
    """
    rows = database.read(_PAGE, {"before": LAST_ID if before is None else before, "rows": limit + 1}, newest=newest)
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], rows[limit - 1].id


def find(database: Database, message_id: int, *, newest: bool = False) -> AnyRow:
    """One message. Raises NotFound."""
    rows = database.read(_ONE, {"message": message_id}, newest=newest)
    if not rows:
        raise NotFound(f"There is no message {message_id}.")
    return rows[0]


def add(connection: Connection, account_id: int, body: str) -> AnyRow:
    """Store a message in the caller's transaction and return it as `find` would."""
    result = connection.execute(insert(messages).values(account_id=account_id, body=body, created_at=now()))
    assert result.inserted_primary_key is not None
    return _one(connection, result.inserted_primary_key[0])


def change(connection: Connection, account_id: int, message_id: int, body: str) -> AnyRow:
    """Give one's own message another text. Raises NotFound, Forbidden."""
    _own(connection, account_id, message_id)
    connection.execute(update(messages).where(messages.c.id == message_id).values(body=body, edited_at=now()))
    return _one(connection, message_id)


def remove(connection: Connection, account_id: int, message_id: int) -> None:
    """Delete one's own message. Raises NotFound, Forbidden."""
    _own(connection, account_id, message_id)
    connection.execute(delete(messages).where(messages.c.id == message_id))


def _one(connection: Connection, message_id: int) -> AnyRow:
    return connection.execute(_ONE, {"message": message_id}).one()


def _own(connection: Connection, account_id: int, message_id: int) -> None:
    owner = connection.execute(
        select(messages.c.account_id).where(messages.c.id == message_id).with_for_update()
    ).scalar()
    if owner is None:
        raise NotFound(f"There is no message {message_id}.")
    if owner != account_id:
        raise Forbidden("This message is somebody else's.")
