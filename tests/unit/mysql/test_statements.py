"""The SQL of the controller: least privilege, nothing persisted, no password in a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from node import statements
from node.settings import ACCOUNTS

PASSWORDS = {account: f"s3cret'{account}" for account in ACCOUNTS}


def test_accounts_leave_no_transaction_behind() -> None:
    assert statements.accounts(PASSWORDS)[0][0] == "SET SESSION sql_log_bin = 0"


def test_every_account_gets_its_password_and_grants() -> None:
    todo = statements.accounts(PASSWORDS)
    assert set(statements.GRANTS) == set(ACCOUNTS)
    for account in ACCOUNTS:
        assert any(PASSWORDS[account] in arguments for _, arguments in todo)


@pytest.mark.parametrize("account", ["app", "migration"])
def test_the_site_only_reaches_its_schema(account: str) -> None:
    assert all(grant.endswith(" ON foobar.*") for grant in statements.GRANTS[account])


def test_only_migrations_change_tables() -> None:
    words = {grant.split(" ON ")[0] for grant in statements.GRANTS["app"]}
    assert words == {"SELECT, INSERT, UPDATE, DELETE"}


def test_no_password_in_any_text() -> None:
    todo = [
        *statements.accounts(PASSWORDS),
        *statements.start_replica(PASSWORDS["replication"]),
        *statements.clone("db1", PASSWORDS["replication"], Path("/copy")),
    ]
    assert not any("s3cret" in sql for sql, _ in todo)


def test_writing_opens_last_and_is_not_persisted() -> None:
    for new in (True, False):
        texts = [sql for sql, _ in statements.open_for_writing(new=new)]
        assert texts[-1] == "SET GLOBAL read_only = OFF"
        assert not any("PERSIST" in text for text in texts)
        assert any("CREATE DATABASE" in text for text in texts) == new


def test_commands() -> None:
    assert statements.serve("db2", 2, Path("/d")) == [
        "mysqld", "--datadir=/d", "--server-id=2", "--report-host=db2",
    ]  # fmt: skip
    assert "--datadir=/i" in statements.initialise(Path("/i"))
