"""What a drill does at the site itself: join, look at what is stored, and leave no trace on the wall."""

import http.client
import json
import secrets

from ladder import door, replication
from ladder.drills.record import Stored
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import Stage


def join(settings: Settings, name: str) -> str:
    """Open an account, and return its token.

    Raises:
        UserError: the site can't be reached, or doesn't let anyone in; nothing was broken yet.
    """
    connection = door.connect(settings, timeout=15)
    body = json.dumps({"name": name, "password": secrets.token_urlsafe()})
    try:
        connection.request("POST", "/api/accounts", body, {"Host": door.HOST, "Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
        if answer.status != 201:
            raise UserError(
                f"the site lets nobody in, so nothing was broken: {answer.status} {said[:200]}; see: make ps"
            )
        return str(json.loads(said)["token"])
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the site can't be reached, so nothing was broken: {error}; see: make ps") from error
    finally:
        connection.close()


def holdings(settings: Settings, stage: Stage, run: str) -> list[Stored]:
    """What each database node that answers holds of a drill's messages."""
    present = containers(settings)
    query = f"SELECT id, body FROM messages WHERE body LIKE '{run} %' ORDER BY id"  # noqa: S608 -- run is hexadecimal
    found = []
    for node in stage.databases:
        if node not in present or not (database := replication.ask(present[node])):
            continue
        said = exec_in(present[node], ["mysql", "-NB", "foobar", "--execute", query])
        if said is not None:
            rows = (text.split("\t") for text in said.splitlines())
            found.append(Stored(node, database.role, tuple((int(ident), body) for ident, body in rows)))
    return found


OURS = "name_key REGEXP '^drill-[0-9a-f]{12}$'"
FORGET = (
    *(
        f"DELETE FROM {table} WHERE account_id IN (SELECT id FROM accounts WHERE {OURS})"  # noqa: S608 -- no input
        for table in ("messages", "idempotent_answers", "tokens")
    ),
    f"DELETE FROM accounts WHERE {OURS}",  # noqa: S608
)


def forget(settings: Settings, stage: Stage) -> bool:
    """Remove the accounts of all drills and everything that they wrote; False when no primary does it."""
    present = containers(settings)
    for node in stage.databases:
        database = replication.ask(present[node]) if node in present else None
        if database and database.writable:
            return exec_in(present[node], ["mysql", "foobar", "--execute", ";".join(FORGET)]) is not None
    return False
