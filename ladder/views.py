"""Tables for people: `ps`, `lb`, `replication`."""

import csv
import io

from docker.models.containers import Container
from rich.table import Table

from ladder import replication
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.nodes import stage_in_force
from ladder.settings import Settings
from ladder.stages import SERVERS, ZONES


def ps(settings: Settings) -> Table:
    """Every node of the stage: server, zone, role, health."""
    stage = stage_in_force(settings)
    present = containers(settings)
    table = Table(title=f"stage {stage.number}, {stage.title}", title_justify="left")
    for column in ("node", "server", "zone", "role", "state"):
        table.add_column(column)
    for node in stage.nodes:
        server = next((name for name, members in SERVERS.items() if node in members), "")
        container = present.get(node)
        table.add_row(node, server, ZONES[node], role_of(node, container), state_of(container))
    return table


def role_of(node: str, container: Container | None) -> str:
    """What a node does; a database's part is asked of itself."""
    if ZONES[node] == "data":
        return replication.role(container) if container else ""
    return {"edge": "gateway", "dns": "name server", "lb1": "balancer"}.get(
        node, "web server" if node.startswith("web") else "application"
    )


def state_of(container: Container | None) -> str:
    """Running and healthy, or what else."""
    if container is None:
        return "[red]no container[/]"
    state = container.attrs["State"]
    word = state["Status"]
    if word == "running":
        word = state.get("Health", {}).get("Status", word)
    return {"healthy": "[green]healthy[/]", "starting": "[yellow]starting[/]"}.get(word, f"[red]{word}[/]")


def servers(settings: Settings) -> list[dict[str, str]]:
    """The balancer's own account of its servers, from its runtime socket, by HAProxy's names.

    Raises:
        UserError: there is no balancer, or it doesn't answer.
    """
    stage = stage_in_force(settings)
    if "lb1" not in stage.nodes:
        raise UserError(f"stage {stage.number} has no balancer; stage 1 has: make up STAGE=1")
    balancer = containers(settings).get("lb1")
    ask = "echo show stat | timeout 3 socat - /run/haproxy.sock"
    said = exec_in(balancer, ["as-server", "sh", "-c", ask]) if balancer and balancer.status == "running" else None
    if said is None:
        raise UserError("lb1 does not answer; see: make ps, or undo all faults: make heal")
    rows = [row for row in csv.DictReader(io.StringIO(said.removeprefix("# "))) if row["pxname"] == "web"]
    return [row for row in rows if row["svname"] != "BACKEND"]


def lb(settings: Settings) -> Table:
    """The balancer's servers: state, share of the requests, what was tried again."""
    found = servers(settings)
    total = sum(int(row["stot"]) for row in found)
    title = f"lb1: {settings.lb_algorithm}, {settings.lb_mode}, {total} requests since its start"
    table = Table(title=title, title_justify="left")
    for column in ("server", "state", "part"):
        table.add_column(column)
    for column in ("sessions", "requests", "share", "req/s", "errors", "retried", "redispatched"):
        table.add_column(column, justify="right")
    for row in found:
        requests = int(row["stot"])
        table.add_row(
            row["svname"],
            f"[green]{row['status']}[/]" if row["status"].startswith("UP") else f"[red]{row['status']}[/]",
            "backup" if row["bck"] == "1" else "active",
            row["scur"],
            row["stot"],
            f"{100 * requests / total:.0f} %" if total else "–",
            row["rate"],
            str(int(row["econ"] or 0) + int(row["eresp"] or 0)),
            row["wretr"],
            row["wredis"],
        )
    return table


def databases(settings: Settings) -> Table:
    """Every database node: role, source, threads, lag, transactions."""
    stage = stage_in_force(settings)
    present = containers(settings)
    table = Table(title="databases", title_justify="left")
    for column in ("node", "role", "source", "receives", "applies", "seconds behind", "GTIDs executed"):
        table.add_column(column)
    troubles = []
    for node in stage.databases:
        found = replication.ask(present[node]) if node in present else None
        if found is None:
            state = present[node].status if node in present else "no container"
            table.add_row(node, f"[red]silent ({state})[/]", "", "", "", "", "")
            continue
        behind = "" if found.seconds_behind is None else str(found.seconds_behind)
        threads = [("yes" if ok else "[red]no[/]") if found.source else "" for ok in (found.receiving, found.applying)]
        table.add_row(node, found.role, found.source, *threads, behind, found.gtids.replace(",", ",\n"))
        if found.trouble:
            troubles.append(f"{node}: {found.trouble}")
    if troubles:
        table.caption = "\n".join(troubles)
        table.caption_justify = "left"
    return table
