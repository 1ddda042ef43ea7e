"""Out of rotation and back: a server that is to go, or has just come, gets no new requests; those it has are answered.

A web server is put out by the balancers, which go on checking it. An application server of stages 1 and 2 goes out with
its web server, the only one that asks it. One of stage 3 refuses new connections, which its web servers take to another
at once, and these start new processes, which have none of the old connections.
"""

from collections.abc import Iterator
from contextlib import suppress

from docker.models.containers import Container

from ladder import packets
from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import Stage, kind, number
from ladder.wait import wait_until

DRAINED_WITHIN = 8.0
"""Seconds for what a server has under way; no answer takes longer than 6 (docs/timeouts.md)."""
FOUND_WITHIN = 30.0
"""Seconds until each balancer has found a server's address and checked it; a usual one takes two."""
PORT = 8000
"""Where application servers are asked."""
OUT = 0x01 | 0x08
"""Of HAProxy's srv_admin_state: taken out by somebody, to be left alone or to be drained."""


def out(settings: Settings, stage: Stage, node: str) -> None:
    """Let a server have no new requests, and wait until it has none. The only one of its kind stays."""
    if len(stage.of(kind(node))) == 1:
        return
    present = containers(settings)
    if stage.apart and kind(node) == "app":
        packets.refuse(settings, present[node], PORT)
        renew_processes(stage, present)
        done = lambda: not connections(present[node])  # noqa: E731
    else:
        web = web_of(stage, node)
        tell(stage, present, f"set server web/{web} state drain")
        done = lambda: not sessions(stage, present, web)  # noqa: E731
    with suppress(UserError):  # what takes longer is not waited for by its visitor either
        wait_until(done, within=DRAINED_WITHIN, what=f"{node} has nothing under way", every=0.1)


def back(settings: Settings, stage: Stage, node: str) -> None:
    """Let a server that is well have requests again.

    Raises:
        UserError: a balancer doesn't find it well.
    """
    present = containers(settings)
    if stage.apart and kind(node) == "app":
        packets.mend(settings, present[node])
        return
    web = web_of(stage, node)
    zone = present[web].attrs["NetworkSettings"]["Networks"][f"{settings.project}_web"]
    for balancer in balancers(stage, present):
        wait_until(
            lambda balancer=balancer: well_at(balancer, web, zone["IPAddress"]),  # type: ignore[misc]
            within=FOUND_WITHIN,
            what=f"a balancer finds {web} well",
            hint=lambda: "see: make lb, make logs",
        )
    tell(stage, present, f"set server web/{web} state ready")


def restore(settings: Settings, stage: Stage) -> list[str]:
    """Have the balancers use every web server that was taken out; in words which."""
    present = containers(settings)
    found = sorted(taken(stage, present))
    for web in found:
        tell(stage, present, f"set server web/{web} state ready")
    return [f"{web} is in rotation again" for web in found]


def taken(stage: Stage, present: dict[str, Container]) -> set[str]:
    """The web servers that were taken out at a balancer."""
    return {
        web
        for balancer in balancers(stage, present)
        for web, state in states(balancer).items()
        if web in stage.nodes and int(state["srv_admin_state"]) & OUT
    }


def web_of(stage: Stage, node: str) -> str:
    """The web server by which a server is reached: itself, or that of its group."""
    return node if kind(node) == "web" or stage.apart else f"web{number(node)}"


def balancers(stage: Stage, present: dict[str, Container]) -> list[Container]:
    """The balancers that run. One that doesn't knows nobody's state when it starts anew."""
    return [present[node] for node in stage.of("lb") if node in present and present[node].status == "running"]


def tell(stage: Stage, present: dict[str, Container], command: str) -> None:
    """Tell every balancer.

    Raises:
        UserError: one does not do it.
    """
    for balancer in balancers(stage, present):
        said = ask(balancer, command)
        if said is None or said.strip():
            raise UserError(f"{balancer.name} does not `{command}`: {(said or 'no answer').strip()}; see: make lb")


def ask(balancer: Container, command: str) -> str | None:
    """What HAProxy says on its runtime socket; None if nothing."""
    script = 'echo "$1" | timeout 3 socat -t3 - /run/haproxy.sock'
    return exec_in(balancer, ["as-server", "sh", "-c", script, "sh", command])


def states(balancer: Container) -> dict[str, dict[str, str]]:
    """What a balancer knows of each web server, by HAProxy's names; nothing if it doesn't answer."""
    return rows(ask(balancer, "show servers state web") or "")


def rows(said: str) -> dict[str, dict[str, str]]:
    """HAProxy's `show servers state`, by server."""
    header: list[str] = []
    found = {}
    for line in said.splitlines():
        if line.startswith("# "):
            header = line[2:].split()
        elif header and len(fields := line.split()) > 1:
            state = dict(zip(header, fields, strict=False))
            found[state["srv_name"]] = state
    return found


def well_at(balancer: Container, web: str, address: str) -> bool:
    """The balancer has checked this web server, at this address, and found it well."""
    state = states(balancer).get(web, {})
    # 2: running; 3: passed.
    return (state.get("srv_addr"), state.get("srv_op_state"), state.get("srv_check_result")) == (address, "2", "3")


def sessions(stage: Stage, present: dict[str, Container], web: str) -> int:
    """Requests that the balancers have with a web server now."""
    return sum(current(ask(balancer, "show stat") or "", web) for balancer in balancers(stage, present))


def current(said: str, web: str) -> int:
    """A server's sessions in HAProxy's `show stat`."""
    header, *lines = said.removeprefix("# ").splitlines() or [""]
    fields = header.split(",")
    found = (dict(zip(fields, line.split(","), strict=False)) for line in lines)
    return sum(int(row["scur"]) for row in found if row.get("pxname") == "web" and row.get("svname") == web)


def renew_processes(stage: Stage, present: dict[str, Container]) -> None:
    """New processes of every nginx, which know no connection; the old ones finish what they have."""
    for web in stage.of("web"):
        if web in present and present[web].status == "running":
            present[web].kill(signal="SIGHUP")  # its first process is nginx: a reload


def connections(container: Container) -> int:
    """Open connections of others to an application server."""
    return len(list(established(exec_in(container, ["cat", "/proc/net/tcp"]) or "")))


def established(table: str) -> Iterator[str]:
    """From the kernel's table: who is connected to PORT, but for this server itself."""
    for line in table.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if local.endswith(f":{PORT:04X}") and state == "01" and not remote.startswith("0100007F"):
            yield remote
