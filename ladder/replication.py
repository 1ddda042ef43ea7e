"""Who is what among the databases, asked of each node itself."""

import re
from dataclasses import dataclass

from docker.models.containers import Container

from ladder.engine import exec_in

QUERY = """
SELECT @@super_read_only, @@gtid_executed, (SELECT COALESCE(MAX(term), 0) FROM tier.promotions) AS term,
       (SELECT VARIABLE_VALUE FROM performance_schema.global_status
         WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_status') AS confirmed,
       (SELECT COUNT(*) FROM performance_schema.clone_status WHERE STATE = 'In Progress') AS cloning;
SHOW REPLICA STATUS
"""


@dataclass(frozen=True)
class Database:
    """What one MySQL node says of itself."""

    writable: bool
    gtids: str
    """Its executed transactions, as a GTID set."""
    source: str = ""
    """The node it replicates from, if any."""
    receiving: bool = False
    """Its I/O thread is connected to the source."""
    applying: bool = False
    """Its SQL thread runs."""
    seconds_behind: int | None = None
    """Age of the transaction being applied, in seconds; None when it isn't known."""
    trouble: str = ""
    """The last error of either thread."""
    term: int = 0
    """The last promotion that it knows of; 0 when there was none."""
    alone: bool = False
    """The primary of a stage where replicas confirm writes, and none does at the moment."""
    cloning: bool = False
    """It is being filled with the data of another, and then leaves what it has."""

    @property
    def role(self) -> str:
        """primary, replica, or waiting: a node that hasn't found its part yet."""
        return "primary" if self.writable else "replica" if self.source else "waiting"


def ask(container: Container) -> Database | None:
    """Ask a node; None when it doesn't answer."""
    if container.status != "running":
        return None
    answer = exec_in(container, ["timeout", "3", "mysql", "--vertical", "--execute", QUERY], timeout=8)
    return parse(answer) if answer else None


def parse(answer: str) -> Database:
    """Read the answer of the mysql client in its vertical format."""
    fields: dict[str, str] = {}
    last = ""
    for line in answer.splitlines():
        if field := re.fullmatch(r"\s*([@\w]+):(?: (.*))?", line):
            last = field[1]
            fields[last] = (field[2] or "").strip()
        elif last and not line.startswith("*"):
            fields[last] += line.strip()  # a GTID set goes on over lines
    behind = fields.get("Seconds_Behind_Source", "NULL")
    return Database(
        writable=fields["@@super_read_only"] == "0",
        gtids=fields["@@gtid_executed"],
        source=fields.get("Source_Host", ""),
        receiving=fields.get("Replica_IO_Running") == "Yes",
        applying=fields.get("Replica_SQL_Running") == "Yes",
        seconds_behind=None if behind == "NULL" else int(behind),
        trouble=fields.get("Last_SQL_Error") or fields.get("Last_IO_Error") or "",
        term=int(fields.get("term", 0)),
        alone=fields["@@super_read_only"] == "0" and fields.get("confirmed") == "OFF",
        cloning=fields.get("cloning", "0") != "0",
    )


def role(container: Container) -> str:
    """The node's role in a word; "silent" when it doesn't answer."""
    found = ask(container)
    return found.role if found else "silent"
