"""More or fewer web and application servers, one by one, while visitors come. Only where tiers are apart (stage 3).

Who comes is well before it gets a request; who goes has finished what it had. The others follow by themselves: the web
servers ask Docker's name server for "app" every second, the balancers for web3, web4, …, the firewalls know zones and
not servers. Only the monitoring is told, for it shall miss a server that dies.
"""

import re
from collections.abc import Mapping

import docker
from docker.models.containers import Container

from ladder import deploy, packets, redundancy, rotation, servers, stack
from ladder.console import step
from ladder.engine import compose, containers, exec_in
from ladder.errors import UserError
from ladder.nodes import demand
from ladder.settings import ROOT, Settings, keep
from ladder.stages import MOST_SERVERS, Stage, kind, number

FOLLOWING = ("agent-web", "nginx-exporter")
"""Who is told how many there are to be, at its start."""
SPARED = 10
"""Connections of a database that are not for application servers: replication, monitoring, people."""


def wanted(words: str) -> dict[str, int]:
    """How many of which, from "WEB=3 APP=4".

    Raises:
        UserError: nothing is asked for, or nonsense.
    """
    found: dict[str, int] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        if name not in ("WEB", "APP") or name.lower() in found:
            raise UserError(f"{word!r}: say how many of which, for example: make scale APP=4")
        if not (re.fullmatch("[0-9]{1,3}", value) and 1 <= int(value) <= MOST_SERVERS):
            raise UserError(f"{name}={value}: a whole number from 1 to {MOST_SERVERS}; nothing was changed")
        found[name.lower()] = int(value)
    if not found:
        raise UserError("how many of which? For example: make scale APP=4, make scale WEB=3 APP=3")
    return found


def refuse(settings: Settings, stage: Stage, words: str) -> None:
    """Raise UserError for what can't be: the wrong stage, nonsense, more than memory or databases carry."""
    demand(stage, "apart")
    counts = wanted(words)
    present = containers(settings)
    new = [node for node in stage.scaled(*_counts(settings, counts)).nodes if is_scaled(node) and node not in present]
    first = {tier: present[f"{tier}1"] for tier in servers.TIERS if f"{tier}1" in present}
    needed = sum(int(first[kind(node)].attrs["HostConfig"]["Memory"]) for node in new if kind(node) in first)
    free = memory_free(present)
    if needed > free:
        raise UserError(
            f"{', '.join(new)} may use {needed / 2**30:.1f} GiB, and this machine has {free / 2**30:.1f} GiB left; "
            "nothing was changed"
        )
    # Of each worker: a pool for reading, one for writing, and who asks for roles (app/wall/database.py).
    each = settings.app_workers * (2 * settings.app_threads + 1)
    if (asked := counts.get("app", 0) * each) > (most := connections()):
        raise UserError(
            f"APP={counts['app']} could open {asked} connections to a database, which takes {most} "
            f"(max_connections in mysql/my.cnf): {most // each} servers, or fewer APP_WORKERS; nothing was changed"
        )


def memory_free(present: Mapping[str, Container]) -> int:
    """Bytes that the engine's machine has left, as its containers see them.

    Raises:
        UserError: none of them says so.
    """
    for container in present.values():
        said = exec_in(container, ["cat", "/proc/meminfo"]) if container.status == "running" else None
        if found := re.search(r"MemAvailable:\s+(\d+) kB", said or ""):
            return int(found[1]) * 1024
    raise UserError("no server runs that could say how much memory is left; nothing was changed. See: make ps")


def connections() -> int:
    """How many connections of application servers a database takes."""
    found = re.search(r"^max_connections = (\d+)$", (ROOT / "mysql/my.cnf").read_text(), re.MULTILINE)
    return int(found[1]) - SPARED if found else 0


def is_scaled(node: str) -> bool:
    """It is of a tier that grows."""
    return kind(node) in servers.TIERS and number(node) > 0


def _counts(settings: Settings, counts: dict[str, int]) -> tuple[int, int]:
    return counts.get("web", settings.web_servers), counts.get("app", settings.app_servers)


def scale(settings: Settings, stage: Stage, words: str) -> list[str]:
    """Have as many as are wanted; what was done, in words. Interrupted, the same again goes on.

    Raises:
        UserError: see refuse; nothing was changed then. Or a new server does not become well: all new ones go again.
    """
    refuse(settings, stage, words)
    before, was = settings, stage
    settings = servers.counted(settings, *_counts(settings, wanted(words)))
    stage = stage.scaled(settings.web_servers, settings.app_servers)
    present = containers(settings)
    come = wanting(settings, stage, present)
    go = sorted((node for node in present if is_scaled(node) and node not in stage.nodes), reverse=True)
    whole = stage.scaled(
        *(max(map(number, (*stage.of(tier), *(n for n in go if kind(n) == tier)))) for tier in servers.TIERS)
    )
    if come:
        step(f"Starting {' '.join(come)}")
        try:
            join(settings, whole, come)
        except (UserError, docker.errors.APIError, OSError, KeyboardInterrupt) as error:
            servers.counted(before, before.web_servers, before.app_servers)
            new = [node for node in come if node not in was.nodes]
            remove(settings, whole, new)
            if not new or not isinstance(error, UserError):
                raise
            raise UserError(f"{', '.join(new)} removed again, there are as many as before: {error}") from error
    # Counted when they are well and before anybody goes: interrupted, nobody is counted who isn't there.
    keep(settings, settings.profile)
    if stage.monitored:
        compose(settings, *deploy.CREATE, *FOLLOWING)
    remove(settings, whole, go)
    web, app = (len(stage.of(tier)) for tier in servers.TIERS)
    done = [f"{', '.join(come)} {'is' if len(come) == 1 else 'are'} in use"] if come else []
    done += [f"{', '.join(go)} {'is' if len(go) == 1 else 'are'} drained and gone"] if go else []
    return [*(done or ["nothing was to be done"]), f"web servers: {web}, application servers: {app}"]


def wanting(settings: Settings, stage: Stage, present: dict[str, Container]) -> list[str]:
    """The servers that are not there, not well or out of rotation, as one is that an interrupted call left half-way."""
    taken = rotation.taken(stage, present)

    def wants(node: str) -> bool:
        if node not in present or node in taken or any(redundancy.health(present, node)):
            return True
        return kind(node) == "app" and packets.is_refusing(settings, present[node])

    return [node for node in stage.nodes if is_scaled(node) and wants(node)]


def join(settings: Settings, stage: Stage, come: list[str]) -> None:
    """Create servers. A web server is out of rotation until it is well; an application server refuses until it is.

    One after the other: each nginx tries two application servers, and of two that refuse, it may meet both. A form that
    a browser posts has no Idempotency-Key, so that no balancer would send it again: its visitor would see the 502.
    """
    for node in come:
        if kind(node) == "web":
            rotation.tell(stage, containers(settings), f"set server web/{node} state drain")
        compose(settings, *deploy.CREATE, node)
        deploy.wait_well(settings, node)
        rotation.back(settings, stage, node)


def remove(settings: Settings, stage: Stage, go: list[str]) -> None:
    """Drain and remove servers, as far as they are there, the last ones first."""
    if not go:
        return
    present = containers(settings)
    for node in sorted((node for node in go if node in present), reverse=True):
        step(f"Draining {node}")
        leave(settings, stage, node)
    stack.forget([present[node] for node in stage.nodes if node in present and node not in go], go)


def leave(settings: Settings, stage: Stage, node: str) -> None:
    """Drain a server, and remove it."""
    container = containers(settings)[node]
    if container.status == "running":
        rotation.out(settings, stage, node)
    stack.remove(container)
    if kind(node) == "web":
        # Its place stays; nobody asks any more for whom it was kept.
        rotation.tell(stage, containers(settings), f"set server web/{node} state maint")
