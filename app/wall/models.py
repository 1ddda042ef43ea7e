"""The tables. Statements are built from these; migrations/ creates them, step by step.

Core tables rather than mapped classes: pages read plain rows in one round trip each. Every table
is InnoDB, utf8mb4, with a primary key, which row-based replication and clone need.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.dialects import mysql

metadata = MetaData()

Identity = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER alone
Ascii = String(255).with_variant(mysql.VARCHAR(255, charset="ascii", collation="ascii_bin"), "mysql")

accounts = Table(
    "accounts",
    metadata,
    Column("id", Identity, primary_key=True, autoincrement=True),
    Column("name", String(32), nullable=False),
    Column("name_key", String(32), nullable=False, unique=True),  # lower case: "Ada" is "ada"
    Column("password_hash", String(255), nullable=False),
    Column("created_at", DateTime, nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the token, never the token
    Column("account_id", Identity, ForeignKey("accounts.id"), nullable=False),
    Column("created_at", DateTime, nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)

messages = Table(
    "messages",
    metadata,
    Column("id", Identity, primary_key=True, autoincrement=True),
    Column("account_id", Identity, ForeignKey("accounts.id"), nullable=False),
    Column("body", String(500), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("edited_at", DateTime),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)

answers = Table(
    "idempotent_answers",
    metadata,
    Column("account_id", Identity, primary_key=True, autoincrement=False),  # 0: nobody yet
    Column("idempotency_key", Ascii, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", LargeBinary(8192)),
    Column("created_at", DateTime, nullable=False, index=True),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)


def now() -> datetime:
    """The time in UTC, as DATETIME columns keep it: without a zone, in whole seconds."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
