"""Accounts: names, passwords (argon2id), bearer tokens, and who is asking.

Browsers carry a signed session cookie that any app server accepts; API callers carry a bearer
token, of which the database keeps only the SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask_login import LoginManager, UserMixin
from sqlalchemy import Connection, Executable, insert, select
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import Conflict

from wall.database import AnyRow, Busy, Database, WritesHeld
from wall.models import accounts, now, tokens

# OWASP's smallest recommendation: about 30 ms of a laptop's core, 19 MiB while it lasts.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_hex())  # checked when there is no account: same time, no clue
_hashing = threading.BoundedSemaphore(2)  # a crowd at the door must not take every thread's core

_BY_NAME = select(accounts.c.id, accounts.c.name, accounts.c.password_hash)
_BY_ID = select(accounts.c.id, accounts.c.name)
_BY_TOKEN = select(accounts.c.id, accounts.c.name).join_from(tokens, accounts, tokens.c.account_id == accounts.c.id)


@dataclass(frozen=True)
class Account(UserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
    """Somebody who may write."""

    id: int
    name: str

    def get_id(self) -> str:
        """What the session keeps: the name too, lest a wiped wall's cookie fit somebody else."""
        return f"{self.id}:{self.name}"


def hash_password(password: str) -> str:
    """The argon2id hash to store. Raises Busy if too many are being made."""
    with _Turn():
        return _hasher.hash(password)


def create(connection: Connection, name: str, password_hash: str) -> Account:
    """Store a new account in the caller's transaction. Raises Conflict if the name is taken."""
    try:
        result = connection.execute(
            insert(accounts).values(name=name, name_key=name.lower(), password_hash=password_hash, created_at=now())
        )
    except IntegrityError as error:
        raise Conflict(f"The name {name} is taken.") from error
    assert result.inserted_primary_key is not None
    return Account(result.inserted_primary_key[0], name)


def authenticate(database: Database, name: str, password: str) -> Account | None:
    """The account of this name and password."""
    rows = _find(database, _BY_NAME.where(accounts.c.name_key == name.lower()))
    with _Turn():
        try:
            _hasher.verify(rows[0].password_hash if rows else _NOBODY, password)
        except (VerificationError, InvalidHashError):  # the house account's hash is no hash
            return None
    return Account(rows[0].id, rows[0].name) if rows else None


def issue_token(connection: Connection, account: Account) -> str:
    """A new bearer token, stored as its digest in the caller's transaction."""
    token = secrets.token_urlsafe(32)
    connection.execute(insert(tokens).values(digest=_digest(token), account_id=account.id, created_at=now()))
    return token


def by_token(database: Database, token: str) -> Account | None:
    """The owner of a bearer token. Raises WritesHeld if it is unknown but may just be new."""
    statement = _BY_TOKEN.where(tokens.c.digest == _digest(token))
    rows = _find(database, statement)
    return Account(rows[0].id, rows[0].name) if rows else None


def login_manager(database: Database) -> LoginManager:
    """Flask-Login, set up to find the session's account in `database`."""
    manager = LoginManager()
    # Its check of the visitor's address would see our web servers, which change with each request.
    manager.session_protection = None

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load(identity: str) -> Account | None:
        number, _, name = identity.partition(":")
        statement = _BY_ID.where(accounts.c.id == int(number), accounts.c.name == name)
        try:
            rows = _find(database, statement)
        except WritesHeld:  # an account that may be new: a stranger for now, who may read
            return None
        return Account(rows[0].id, rows[0].name) if rows else None

    return manager


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _find(database: Database, statement: Executable) -> Sequence[AnyRow]:
    """What a replica doesn't know may be new: only the primary can say that it doesn't exist."""
    return database.read(statement) or database.read_primary(statement)


class _Turn:
    """At most two password hashes at a time in a worker; who waits too long is told to retry."""

    def __enter__(self) -> None:
        if not _hashing.acquire(timeout=1.0):
            raise Busy("too many passwords are being checked")

    def __exit__(self, *_: object) -> None:
        _hashing.release()
