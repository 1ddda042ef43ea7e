"""Tables for people: `ps`, `lb`, `vip`, `certificate`, `replication`."""

import csv
import io
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from docker.models.containers import Container
from rich.console import Group
from rich.table import Table

from ladder import certificates, door, pair, replication
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.nodes import demand, stage_in_force
from ladder.settings import Settings
from ladder.stages import BALANCERS, is_database, zone
from pki.certificates import days_left, names_of

WATCHING = {
    **{"prometheus": "collector", "alertmanager": "alerts", "pager": "is told"},
    **{"grafana": "boards", "logs": "log collector"},
}


def ps(settings: Settings) -> Table:
    """Every node of the stage: server, zone, role, health."""
    stage = stage_in_force(settings)
    present = containers(settings)
    table = Table(title=f"stage {stage.number}, {stage.title}", title_justify="left")
    for column in ("node", "server", "zone", "role", "state"):
        table.add_column(column)
    for node in stage.nodes:
        server = next((name for name, members in stage.servers.items() if node in members), "")
        container = present.get(node)
        table.add_row(node, server, zone(node), role_of(node, container), state_of(container))
    return table


def role_of(node: str, container: Container | None) -> str:
    """What a node does; a database's part is asked of itself."""
    if is_database(node):
        return replication.role(container) if container else ""
    if node.startswith("agent-"):
        return "monitoring client"
    if node.endswith("-exporter"):
        return "exporter"
    return {"edge": "gateway", "dns": "name server", **dict.fromkeys(BALANCERS, "balancer"), **WATCHING}.get(
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


def servers(settings: Settings, node: str, *backends: str) -> list[dict[str, str]]:
    """A balancer's own account of its servers, those of some backends, from its runtime socket, by HAProxy's names.

    Raises:
        UserError: it doesn't answer.
    """
    balancer = containers(settings).get(node)
    ask = "echo show stat | timeout 3 socat - /run/haproxy.sock"
    said = exec_in(balancer, ["as-server", "sh", "-c", ask]) if balancer and balancer.status == "running" else None
    if said is None:
        raise UserError(f"{node} does not answer; see: make ps, or undo all faults: make heal")
    rows = [row for row in csv.DictReader(io.StringIO(said.removeprefix("# "))) if row["pxname"] in backends]
    # It keeps places for web servers that there may be.
    return [row for row in rows if row["svname"] in stage_in_force(settings).nodes]


def lb(settings: Settings) -> Group:
    """The balancer's servers: state, share of the requests, what was tried again.

    Of two balancers, those that hold an address: who holds none has nothing to do.

    Raises:
        UserError: there is no balancer, or it doesn't answer.
    """
    stage = stage_in_force(settings)
    if not stage.balancers:
        raise UserError(f"stage {stage.number} has no balancer; stage 1 has: make up STAGE=1")
    seats = pair.seats(settings, stage) if stage.paired else {}
    working = [node for node, seat in seats.items() if seat and seat.holds]
    return Group(*(behind(settings, node) for node in working or stage.balancers[:1]))


def behind(settings: Settings, node: str) -> Table:
    """One balancer's servers.

    Raises:
        UserError: it doesn't answer.
    """
    found = servers(settings, node, "web")
    total = sum(int(row["stot"]) for row in found)
    title = f"{node}: {settings.lb_algorithm}, {settings.lb_mode}, {total} requests since its start"
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


def vip(settings: Settings) -> Table:
    """Which of two balancers holds the address that they share, or which of two.

    Raises:
        UserError: this stage has one balancer, or none.
    """
    stage = stage_in_force(settings)
    demand(stage, "paired")
    present = containers(settings)
    shared, homes = pair.addresses(settings), pair.homes(settings)
    visited = {address: pair.reached(settings, stage, address) for address in shared}
    what = "addresses, of which each balancer has one at home" if homes else "the address that two balancers share"
    table = Table(title=f"{' and '.join(shared)}, {what}", title_justify="left")
    for column in ("balancer", *(["at home"] if homes else []), "holds" if homes else "holds it", "visitors come here"):
        table.add_column(column)
    table.add_column("HAProxy")

    def told(some: Sequence[str]) -> str:
        return ", ".join(some) if homes else "yes" if some else ""

    for node, seat in pair.seats(settings, stage).items():
        home = [address for address, place in homes.items() if place == node]
        holds = (f"[green]{told(seat.holds)}[/]" if seat.holds else "no") if seat else "?"
        come = told([address for address, by in visited.items() if by == node])
        state = present[node].status if node in present else "no container"
        table.add_row(node, *home, holds, come, seat.says if seat else f"[red]silent ({state})[/]")
    return table


def certificate(settings: Settings) -> Table:
    """The site's certificate, and whether it is the one that visitors get."""
    if (pair := certificates.site()) is None:
        raise UserError("there is no certificate yet; this makes one: make up STAGE=2")
    mine, now = pair.certificate, datetime.now(UTC)
    shown = Table(title="the certificate of the site", title_justify="left", show_header=False)
    key = mine.public_key()
    for name, value in (
        ("for", ", ".join(names_of(mine))),
        ("by", mine.issuer.rfc4514_string()),
        ("valid", f"{mine.not_valid_before_utc:%Y-%m-%d %H:%M} to {mine.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"),
        ("days left", f"{days_left(mine, now):.1f}"),
        ("key", f"{type(key).__name__.lstrip('_').removesuffix('PublicKey')} {getattr(key, 'key_size', '')}"),
        ("SHA-256", certificates.fingerprint(mine)),
        ("visitors get", _served(settings, mine)),
    ):
        shown.add_row(name, value)
    return shown


def _served(settings: Settings, mine: Certificate) -> str:
    if not door.secure(settings):
        return "none: this stage has no HTTPS"
    connection = door.connect(settings, timeout=5)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        found = connection.sock.getpeercert(binary_form=True)
    except OSError as error:
        return f"[red]no connection[/]: {error}"
    finally:
        connection.close()
    return "this one" if found == mine.public_bytes(Encoding.DER) else "[red]another[/]; see: make certificate RENEW=1"


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
        if found.alone:
            troubles.append(f"{node}: no replica confirms its writes")
        if found.trouble:
            troubles.append(f"{node}: {found.trouble}")
    if troubles:
        table.caption = "\n".join(troubles)
        table.caption_justify = "left"
    return table
