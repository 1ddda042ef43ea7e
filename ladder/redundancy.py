"""Is the stage whole: every server healthy, every replica caught up? Asked of the servers, not of Docker's own checks.

Docker asks every few seconds; a drill wants to know within one. Asking costs a tenth of a second of a core a question.
"""

from collections.abc import Callable, Iterator
from functools import partial

from docker.models.containers import Container

from ladder import pair, replication, views
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stack import is_ready
from ladder.stages import MONITORING, Stage, is_database

Question = Callable[[], Iterator[str]]
"""It names what is not as it should be."""


def missing(settings: Settings, stage: Stage) -> str:
    """The first thing that is not as it should be, in words; "" when the stage is whole."""
    return next((wrong for ask in questions(settings, stage) for wrong in ask()), "")


def whole(settings: Settings, stage: Stage) -> Callable[[], bool]:
    """To be asked again and again: is the stage whole?

    It goes on where the last answer was no, and says yes when all has been well in one go: visitors who are there at
    the time are not to wait for the cores that the questions take.
    """
    at = 0

    def ask() -> bool:
        nonlocal at
        begun = at
        for at, question in enumerate(questions(settings, stage)):
            if (at >= begun or at == 0) and any(question()):  # without the first, none of the others can be asked
                return False
        at = 0
        return begun == 0 or ask()

    return ask


def questions(settings: Settings, stage: Stage) -> Iterator[Question]:
    """What has to be so for a stage to be whole, the cheap questions first; each relies on those before it."""
    present = containers(settings)
    yield lambda: (f"{node} is {state}" for node, state in states(stage, present) if state != "running")
    yield lambda: databases(stage, present)
    for node in stage.balancers:
        yield partial(backends, settings, node)
    if stage.paired:
        yield lambda: the_pair(settings, stage)
    for node in stage.nodes:
        # Databases were asked above; what watches is on no visitor's way, and that it runs will do.
        if not is_database(node) and node not in MONITORING:
            yield partial(health, present, node)


def states(stage: Stage, present: dict[str, Container]) -> Iterator[tuple[str, str]]:
    """Every server's state, as the engine calls it."""
    return ((node, present[node].status if node in present else "gone") for node in stage.nodes)


def backends(settings: Settings, balancer: str) -> Iterator[str]:
    """A balancer uses every server behind it."""
    try:
        found = views.servers(settings, balancer, "web", "balancers")
    except UserError:
        yield f"{balancer} does not answer"
        return
    yield from (f"{balancer} has {row['svname']} {row['status']}" for row in found if down(row))


def health(present: dict[str, Container], node: str) -> Iterator[str]:
    """A server passes its own health check: Docker's last one, or another now."""
    if not is_ready(node, present[node]) and exec_in(present[node], health_check(present[node])) is None:
        yield f"{node} is not healthy"


def down(row: dict[str, str]) -> bool:
    """A server that the balancer does not use."""
    return not row["status"].startswith("UP")


def the_pair(settings: Settings, stage: Stage) -> Iterator[str]:
    """Exactly one holds the address, and the other could take it; of two, each is at home."""
    seats, homes = pair.seats(settings, stage), pair.homes(settings)
    for address in pair.addresses(settings):
        holding = pair.holding(seats, address)
        if len(holding) != 1:
            yield f"{len(holding)} balancers hold the address {address}"
        elif homes and holding != [homes[address]]:
            yield f"{address} has not gone home to {homes[address]}"
    yield from ("a balancer thinks badly of its HAProxy" for seat in seats.values() if seat and not seat.well)


def databases(stage: Stage, present: dict[str, Container]) -> Iterator[str]:
    """Exactly one primary, and every other node a replica that has all of it."""
    found = {node: replication.ask(present[node]) for node in stage.databases}
    writable = [(node, database) for node, database in found.items() if database and database.writable]
    if len(writable) != 1:
        yield f"{len(writable)} databases accept writes"
        return
    [(leader, primary)] = writable
    if primary.alone:
        yield f"no replica confirms what {leader} writes"
    for node, database in found.items():
        if node == leader:
            continue
        if not database or not (database.source == leader and database.receiving and database.applying):
            yield f"{node} does not replicate"
        elif not caught_up(present[node], primary):
            yield f"{node} is behind {leader}"


def caught_up(replica: Container, primary: replication.Database) -> bool:
    """The replica has executed everything that the primary had when it was asked."""
    gtids = "".join(primary.gtids.split())
    said = exec_in(replica, ["mysql", "-NBe", f"SELECT GTID_SUBSET('{gtids}', @@gtid_executed)"])
    return said is not None and said.strip() == "1"


def health_check(container: Container) -> list[str]:
    """The container's own health check, as a command."""
    kind, *words = container.attrs["Config"]["Healthcheck"]["Test"]
    command = words if kind == "CMD" else ["sh", "-c", *words]
    return ["timeout", "3", *command]
