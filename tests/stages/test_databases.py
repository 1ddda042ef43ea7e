"""The database tier: written on the primary, from stage 1 on read from the replica, and both say so."""

import uuid

import httpx
import pytest

from ladder.wait import wait_until
from tests.stack import Stack

WRITERS = ("app", "migration", "replication", "monitoring")


@pytest.mark.stage(1)
def test_a_message_is_stored_on_the_primary_and_read_from_the_replica(
    stack: Stack, visitor: httpx.Client, author: httpx.Client
) -> None:
    primary, replica = stack.holder("primary"), stack.holder("replica")

    posted = author.post("/api/messages", json={"body": f"where am I {uuid.uuid4().hex}"})
    query = f"SELECT body FROM messages WHERE id = {posted.json()['id']}"

    assert posted.headers["X-Served-By"].split(", ")[-1] == primary
    assert stack.sql(primary, query) == [[posted.json()["body"]]]
    wait_until(lambda: stack.sql(replica, query), within=20, what="the replica has it")

    def ten_reads() -> list[httpx.Response]:
        return [visitor.get(f"/api/messages/{posted.json()['id']}") for _ in range(10)]

    def readers(reads: list[httpx.Response]) -> set[str]:
        return {s for read in reads for s in read.headers["X-Served-By"].split(", ") if s.startswith("db")}

    # One that was late for a moment, as on a busy machine, is not read from until it has been asked again.
    wait_until(lambda: readers(ten_reads()) == {replica}, within=20, what=f"reads come from {replica}")
    assert {read.json()["body"] for read in ten_reads()} == {posted.json()["body"]}


@pytest.mark.stage(0, 1, 2, 3)
def test_only_the_primary_can_be_written(stack: Stack) -> None:
    query = "SELECT @@read_only, @@super_read_only"
    expected = {"primary": [["0", "0"]], "replica": [["1", "1"]]}

    for role in ("primary", "replica")[: len(stack.stage.databases)]:
        assert stack.sql(stack.holder(role), query) == expected[role]


@pytest.mark.stage(0, 1, 2, 3)
def test_durability_is_kept_where_it_costs(stack: Stack) -> None:
    query = "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@gtid_mode, @@binlog_format"

    for node in stack.stage.databases:
        assert stack.sql(node, query) == [["1", "1", "ON", "ROW"]]


@pytest.mark.stage(0, 1, 2, 3)
def test_users_have_the_least_they_need(stack: Stack) -> None:
    for node in stack.stage.databases:
        users = {
            tuple(row) for row in stack.sql(node, "SELECT user, host FROM mysql.user WHERE user NOT LIKE 'mysql.%'")
        }
        assert users == {("root", "localhost"), *((user, "%") for user in WRITERS)}
        grants = {user: str(stack.sql(node, f"SHOW GRANTS FOR {user}@'%'")) for user in WRITERS}
        assert "CREATE" not in grants["app"]
        assert "ON *.*" not in grants["app"].replace("GRANT USAGE ON *.*", "")
        assert "`foobar`" not in grants["monitoring"] + grants["replication"]
        for said in grants.values():
            assert "SUPER" not in said
            assert "ALL PRIVILEGES" not in said
            assert "GRANT OPTION" not in said


@pytest.mark.stage(0, 1, 2, 3)
def test_make_replication_says_who_is_what(stack: Stack) -> None:
    def shown() -> dict[str, list[str]]:
        rows = [[cell.strip() for cell in line.split("│")] for line in stack.must("replication").splitlines()]
        return {row[1]: row[2:7] for row in rows if len(row) > 2 and row[1] in stack.stage.databases}

    primary = stack.holder("primary")
    replicas = set(stack.stage.databases) - {primary}
    # What is written meanwhile is applied a moment later.
    wait_until(lambda: all(shown()[node][-1] == "0" for node in replicas), within=20, what="nobody is behind")
    found = shown()
    assert set(found) == set(stack.stage.databases)
    assert found[primary][0] == "primary"
    for node in replicas:
        assert found[node][:4] == ["replica", primary, "yes", "yes"]


@pytest.mark.stage(0, 1)
def test_answers_are_in_the_site_s_one_clock(stack: Stack) -> None:
    for node in stack.stage.databases:
        assert stack.sql(node, "SELECT TIMEDIFF(NOW(), UTC_TIMESTAMP())") == [["00:00:00"]]
