"""The tables of the wall.

MySQL commits each CREATE TABLE by itself, so a job that dies halfway is run again: hence
`if_not_exists`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

INNODB = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
Identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "accounts",
        sa.Column("id", Identity, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("name_key", sa.String(32), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        if_not_exists=True,
        **INNODB,
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("account_id", Identity, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        if_not_exists=True,
        **INNODB,
    )
    op.create_table(
        "messages",
        sa.Column("id", Identity, primary_key=True, autoincrement=True),
        sa.Column("account_id", Identity, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("body", sa.String(500), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("edited_at", sa.DateTime),
        if_not_exists=True,
        **INNODB,
    )
    op.create_table(
        "idempotent_answers",
        sa.Column("account_id", Identity, primary_key=True, autoincrement=False),
        sa.Column(
            "idempotency_key",
            sa.String(255).with_variant(mysql.VARCHAR(255, charset="ascii", collation="ascii_bin"), "mysql"),
            primary_key=True,
        ),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary(8192)),
        # Inside the table's own statement: an index of its own could be missing after a crash.
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Index("ix_idempotent_answers_created_at", "created_at"),
        if_not_exists=True,
        **INNODB,
    )
