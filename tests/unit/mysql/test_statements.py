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


def test_a_promotion_is_written_down_before_anybody_waits_for_a_replica() -> None:
    promotion = statements.promotion("db2", 3)
    todo = statements.open_for_writing(promotion=promotion, semi_sync=True)
    waits = [number for number, (sql, _) in enumerate(todo) if sql == "SET GLOBAL rpl_semi_sync_source_enabled = ON"]
    assert todo.index(promotion) < waits[0] < todo.index(("SET GLOBAL read_only = OFF", ()))


def test_the_table_of_promotions_is_no_transaction_and_is_there_before_its_grant() -> None:
    todo = [*statements.promotions(), *statements.accounts(PASSWORDS)]
    texts = [sql for sql, _ in todo]
    assert texts[0] == "SET SESSION sql_log_bin = 0"
    granted = next(number for number, text in enumerate(texts) if "tier.promotions TO monitoring" in text)
    assert next(n for n, text in enumerate(texts) if text.startswith("CREATE TABLE")) < granted


def test_a_dump_reads_every_log_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "binlog.index").write_text("./binlog.000001\n./binlog.000002\n")
    _, no_defaults, *_, gtids, first, second = statements.dump(tmp_path, "a:1-2")
    assert no_defaults == "--no-defaults"  # it has to be the first
    assert gtids == "--include-gtids=a:1-2"
    assert [Path(first).name, Path(second).name] == ["binlog.000001", "binlog.000002"]


def test_commands() -> None:
    assert statements.serve("db2", 2, Path("/d")) == [
        "mysqld", "--datadir=/d", "--server-id=2", "--report-host=db2",
    ]  # fmt: skip
    semi_sync = statements.serve("db2", 2, Path("/d"), semi_sync=True)
    assert semi_sync[1] == "--defaults-extra-file=/etc/mysql/semi-sync.cnf"  # it has to be the first
    assert "--datadir=/i" in statements.initialise(Path("/i"))


def test_only_the_applications_statements_are_kept() -> None:
    everybody, application = (sql for sql, _ in statements.remember_the_application())
    assert everybody.endswith("SET HISTORY = 'NO'")
    assert application.endswith("VALUES ('%%', 'app', '%%', 'YES', 'YES')")
