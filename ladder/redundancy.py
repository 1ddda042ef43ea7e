"""Is the stage whole: every server healthy, every replica caught up? Asked of the servers, not of Docker's own checks.

Docker asks every few seconds; a drill wants to know within one. Asking costs a tenth of a second of a core a question,
so the first thing that is missing ends it.
"""

from collections.abc import Iterator

from docker.models.containers import Container

from ladder import replication, views
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import ZONES, Stage


def missing(settings: Settings, stage: Stage) -> str:
    """The first thing that is not as it should be, in words; "" when the stage is whole."""
    return next(wanting(settings, stage), "")


def wanting(settings: Settings, stage: Stage) -> Iterator[str]:
    """Everything that is not as it should be, the cheap questions first."""
    present = containers(settings)
    for node in stage.nodes:
        state = present[node].status if node in present else "gone"
        if state != "running":
            yield f"{node} is {state}"
    yield from databases(stage, present)
    if "lb1" in stage.nodes:
        try:
            yield from (f"lb1 has {row['svname']} {row['status']}" for row in views.servers(settings) if down(row))
        except UserError:
            yield "lb1 does not answer"
    for node in stage.nodes:
        if ZONES[node] != "data" and exec_in(present[node], health_check(present[node])) is None:
            yield f"{node} is not healthy"


def down(row: dict[str, str]) -> bool:
    """A server that the balancer does not use."""
    return not row["status"].startswith("UP")


def databases(stage: Stage, present: dict[str, Container]) -> Iterator[str]:
    """Exactly one primary, and every other node a replica that has all of it."""
    found = {node: replication.ask(present[node]) for node in stage.databases}
    primaries = [node for node, database in found.items() if database and database.writable]
    if len(primaries) != 1:
        yield f"{len(primaries)} databases accept writes"
        return
    for node, database in found.items():
        if node in primaries:
            continue
        if not database or not (database.source == primaries[0] and database.receiving and database.applying):
            yield f"{node} does not replicate"
        elif not caught_up(present[primaries[0]], present[node]):
            yield f"{node} is behind {primaries[0]}"


def caught_up(primary: Container, replica: Container) -> bool:
    """The replica has executed everything that the primary had when it was asked."""
    at = replication.ask(primary)
    if not at:
        return False
    gtids = "".join(at.gtids.split())
    said = exec_in(replica, ["mysql", "-NBe", f"SELECT GTID_SUBSET('{gtids}', @@gtid_executed)"])
    return said is not None and said.strip() == "1"


def health_check(container: Container) -> list[str]:
    """The container's own health check, as a command."""
    kind, *words = container.attrs["Config"]["Healthcheck"]["Test"]
    command = words if kind == "CMD" else ["sh", "-c", *words]
    return ["timeout", "3", *command]
