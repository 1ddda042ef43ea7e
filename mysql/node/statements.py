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
    ),
}

# Everything `Facts` needs, in one round trip.
ASK = """
SELECT @@GLOBAL.gtid_executed AS executed, @@GLOBAL.gtid_purged AS purged,
       @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only,
       (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = %s) AS has_schema,
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


def accounts(passwords: Mapping[str, str]) -> list[Statement]:
    """Make every account what GRANTS and the secret files say, whatever it was before.

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


def open_for_writing(*, new: bool) -> list[Statement]:
    """Let the site in. Never persisted: a restart is read only. `new`: without a schema yet."""
    schema: list[Statement] = [(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}", ())]
    return [
        *let_administrator_write(),
        *(schema if new else []),
        ("SET GLOBAL read_only = OFF", ()),
    ]


def close_for_writing() -> list[Statement]:
    """Read only, for administrators too (it implies read_only)."""
    return [("SET GLOBAL super_read_only = ON", ())]


def initialise(into: Path) -> list[str]:
    """Make an empty data folder; root has no password yet, and nobody can reach it."""
    # Errors only: its warnings are about the steps that follow.
    return ["mysqld", "--initialize-insecure", f"--datadir={into}", "--log-error-verbosity=1"]


def serve(name: str, server_id: int, data: Path) -> list[str]:
    """The server; everything that is the same on every node is in my.cnf."""
    return ["mysqld", f"--datadir={data}", f"--server-id={server_id}", f"--report-host={name}"]
