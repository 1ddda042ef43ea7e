"""The SQL and the command lines that the controller uses, built apart from their execution.

Each SQL builder gives (statement, arguments); the driver quotes the arguments, so that a
password is never part of a text that could be logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from node.settings import PORT, SCHEMA

Statement = tuple[str, tuple[str | int, ...]]

# What an account may do, and why it needs it. No account has more, root only exists on the socket.
GRANTS: Mapping[str, tuple[str, ...]] = {
    # The site's rows.
    "app": (f"SELECT, INSERT, UPDATE, DELETE ON {SCHEMA}.*",),
    # The site's tables, and rows when a migration has to move them.
    "migration": (f"SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON {SCHEMA}.*",),
    # To read the binary log, and to be the donor of a clone.
    "replication": ("REPLICATION SLAVE, BACKUP_ADMIN ON *.*",),
    # To read positions, threads and whether the schema is there; no row of the site.
    "monitoring": (
        "REPLICATION CLIENT, PROCESS, SHOW DATABASES ON *.*",
        "SELECT ON performance_schema.*",
        "SELECT ON tier.promotions",
    ),
}

# Everything `Facts` needs, in one round trip. What is owned (uuid:number#thread) comes first: then it is executed.
ASK = """
SELECT REGEXP_REPLACE(@@GLOBAL.gtid_owned, '#[0-9]+', '') AS owned,
       @@GLOBAL.gtid_executed AS executed, @@GLOBAL.gtid_purged AS purged,
       @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only,
       (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = %s) AS has_schema,
       (SELECT COALESCE(MAX(term), 0) FROM tier.promotions) AS term,
       (SELECT VARIABLE_VALUE FROM performance_schema.global_status
         WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_status') AS confirmed,
       c.HOST AS source, r.SERVICE_STATE AS receiver, r.LAST_ERROR_NUMBER AS receiver_errno,
       r.LAST_ERROR_MESSAGE AS receiver_error, r.RECEIVED_TRANSACTION_SET AS received,
       a.SERVICE_STATE AS applier, w.errno AS applier_errno, w.error AS applier_error
  FROM (SELECT '' AS channel) AS this
  LEFT JOIN performance_schema.replication_connection_configuration AS c
         ON c.CHANNEL_NAME = this.channel
  LEFT JOIN performance_schema.replication_connection_status AS r
         ON r.CHANNEL_NAME = this.channel
  LEFT JOIN performance_schema.replication_applier_status AS a
         ON a.CHANNEL_NAME = this.channel
  LEFT JOIN (SELECT MAX(LAST_ERROR_NUMBER) AS errno, MAX(LAST_ERROR_MESSAGE) AS error
               FROM performance_schema.replication_applier_status_by_worker
              WHERE CHANNEL_NAME = '') AS w
         ON TRUE
"""

# Of a primary whose commits are to be confirmed; nothing of any other node.
CONFIRMED = """
SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status
 WHERE VARIABLE_NAME IN ('Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_status',
                         'Rpl_semi_sync_source_wait_sessions', 'Rpl_semi_sync_source_yes_tx')
   AND NOT @@GLOBAL.read_only AND @@GLOBAL.rpl_semi_sync_source_enabled
 UNION ALL
SELECT 'Rpl_semi_sync_source_waits', IF(@@GLOBAL.rpl_semi_sync_source_wait_no_replica, 'ON', 'OFF')
  FROM DUAL WHERE NOT @@GLOBAL.read_only AND @@GLOBAL.rpl_semi_sync_source_enabled
"""


def accounts(passwords: Mapping[str, str]) -> list[Statement]:
    """Make every account what GRANTS and the secret files say; what somebody gave it beyond that, it keeps.

    Not written to the binary log: every node does it for itself from the same files, so it
    leaves no transaction that another node lacks. root loses its empty first password.
    """
    todo: list[Statement] = [("SET SESSION sql_log_bin = 0", ())]
    for account, grants in GRANTS.items():
        todo.append((f"CREATE USER IF NOT EXISTS {account}@'%%'", ()))
        todo.append(
            (
                f"ALTER USER {account}@'%%' IDENTIFIED WITH caching_sha2_password BY %s",
                (passwords[account],),
            )
        )
        todo += [(f"GRANT {grant} TO {account}@'%%'", ()) for grant in grants]
    # auth_socket: whoever runs as `mysql` in this container already owns all the files.
    todo.append(("ALTER USER root@localhost IDENTIFIED WITH auth_socket AS 'mysql'", ()))
    return todo


def promotions() -> list[Statement]:
    """Where each promotion is written down: as the new primary's first transaction, so that who has followed it knows.

    The table itself is made by every node for itself, as the accounts are.
    """
    return [
        ("SET SESSION sql_log_bin = 0", ()),
        ("CREATE DATABASE IF NOT EXISTS tier", ()),
        (
            "CREATE TABLE IF NOT EXISTS tier.promotions"
            " (term INT UNSIGNED PRIMARY KEY, leader VARCHAR(64) NOT NULL, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
            (),
        ),
    ]


def remember_the_application() -> list[Statement]:
    """Keep the last statements of the application, and of nobody else. Forgotten when mysqld ends."""
    actors = "performance_schema.setup_actors"
    return [
        (f"UPDATE {actors} SET HISTORY = 'NO'", ()),
        (f"INSERT INTO {actors} VALUES ('%%', 'app', '%%', 'YES', 'YES')", ()),
    ]


def follow(source: str) -> list[Statement]:
    """Name the source. Its heartbeats, every 2 s, are what replica_net_timeout waits for."""
    return [
        ("STOP REPLICA", ()),
        (
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s,"
            " SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 1,"
            " SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_CONNECT_RETRY = 2, SOURCE_RETRY_COUNT = 0",
            (source, PORT),
        ),
    ]


def start_replica(password: str) -> list[Statement]:
    """Both threads. The password is given each time, so that it is not kept in the data."""
    return [("START REPLICA USER = 'replication' PASSWORD = %s", (password,))]


def stop_replica() -> list[Statement]:
    """Both threads."""
    return [("STOP REPLICA", ())]


def start_applier() -> list[Statement]:
    """Execute what was received, ask nobody for more."""
    return [("START REPLICA SQL_THREAD", ())]


def clone(donor: str, password: str, into: Path) -> list[Statement]:
    """Copy the donor into a new folder; the data in use stays as it is."""
    return [
        ("SET GLOBAL clone_valid_donor_list = %s", (f"{donor}:{PORT}",)),
        (
            "CLONE INSTANCE FROM 'replication'@%s:%s IDENTIFIED BY %s DATA DIRECTORY = %s REQUIRE NO SSL",
            (donor, PORT, password, str(into)),
        ),
    ]


def forget_source() -> list[Statement]:
    """No channel, no relay log."""
    return [("STOP REPLICA", ()), ("RESET REPLICA ALL", ())]


def let_administrator_write() -> list[Statement]:
    """Open for administrators only: read_only stays."""
    return [("SET GLOBAL read_only = ON", ()), ("SET GLOBAL super_read_only = OFF", ())]


def open_for_writing(
    *, new: bool = False, promotion: Statement | None = None, semi_sync: bool = False
) -> list[Statement]:
    """Let the site in. Never persisted: a restart is read only. `new`: without a schema yet.

    What is written here waits for no replica; there may be none as long as this node is closed.
    """
    schema: list[Statement] = [(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}", ())]
    return [
        *let_administrator_write(),
        *(schema if new else []),
        *([promotion] if promotion else []),
        *(wait_for_replicas() if semi_sync else []),
        ("SET GLOBAL read_only = OFF", ()),
    ]


def promotion(leader: str, term: int) -> Statement:
    """The first transaction of a new primary."""
    return ("INSERT IGNORE INTO tier.promotions (term, leader) VALUES (%s, %s)", (term, leader))


def wait_for_replicas() -> list[Statement]:
    """From now on a commit waits for a replica's word. Begun anew, it sees who is connected now."""
    return [*wait_for_nobody(), *wait_again()]


def wait_again() -> list[Statement]:
    """The same of a primary that went on alone."""
    return [
        ("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON", ()),
        ("SET GLOBAL rpl_semi_sync_source_enabled = ON", ()),
    ]


def go_on_alone() -> list[Statement]:
    """Commits wait for nobody, as long as no replica is connected. This, unlike the above, holds nobody up."""
    return [("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF", ())]


def wait_for_nobody() -> list[Statement]:
    """Commits that wait are let go, at once. For up to a second, though, MySQL lets nobody in who is new."""
    return [("SET GLOBAL rpl_semi_sync_source_enabled = OFF", ())]


def close_for_writing() -> list[Statement]:
    """Read only, for administrators too (it implies read_only). Commits under way end first."""
    return [("SET GLOBAL super_read_only = ON", ())]


def be_quick() -> list[Statement]:
    """Give up what waits longer for others than a confirmed commit takes at most."""
    return [("SET SESSION lock_wait_timeout = 3", ())]


# Whose work would be left half done when this node closes, and hold its locks; and everybody who writes.
IN_TRANSACTION = """
SELECT p.ID FROM performance_schema.processlist AS p
  JOIN information_schema.innodb_trx AS t ON t.trx_mysql_thread_id = p.ID WHERE p.USER IN ('app', 'migration')
"""
WRITERS = "SELECT ID FROM performance_schema.processlist WHERE USER IN ('app', 'migration')"


def initialise(into: Path) -> list[str]:
    """Make an empty data folder; root has no password yet, and nobody can reach it."""
    # Errors only: its warnings are about the steps that follow.
    return ["mysqld", "--initialize-insecure", f"--datadir={into}", "--log-error-verbosity=1"]


def serve(name: str, server_id: int, data: Path, *, semi_sync: bool = False) -> list[str]:
    """The server; everything that is the same on every node is in my.cnf, and for `semi_sync` in semi-sync.cnf."""
    return [
        "mysqld",
        *(["--defaults-extra-file=/etc/mysql/semi-sync.cnf"] if semi_sync else []),
        f"--datadir={data}",
        f"--server-id={server_id}",
        f"--report-host={name}",
    ]


def dump(data: Path, gtids: str) -> list[str]:
    """These transactions, out of the binary logs in a data folder, as SQL that can be executed and read."""
    logs = [str(data / name) for name in (data / "binlog.index").read_text().split()]
    # It would stumble over what my.cnf says to clients.
    return ["mysqlbinlog", "--no-defaults", "--verbose", f"--include-gtids={gtids}", *logs]


def feed() -> list[str]:
    """The administrator's client, which executes what a dump holds."""
    return ["mysql", "--binary-mode"]
