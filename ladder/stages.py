"""The one table of what exists on which rung; `ps`, the tests and the docs read it.

That the Compose files say the same is a test (tests/config/test_stages.py). Roles of databases are not in it:
they move.
"""

from dataclasses import dataclass, replace

from ladder.errors import UserError

SERVERS: dict[str, tuple[str, ...]] = {
    "server1": ("web1", "app1", "db1"),
    "server2": ("web2", "app2", "db2"),
}
"""A server of stages 0 to 2 is a group of containers that live and die together."""

ZONES: dict[str, str] = {
    "edge": "edge",
    "dns": "edge",
    "lb1": "edge",
    "lb2": "edge",
    "web1": "web",
    "web2": "web",
    "app1": "web",
    "app2": "web",
    "db1": "data",
    "db2": "data",
    "agent-edge": "edge",
    "agent-web": "web",
    "agent-data": "data",
    "blackbox-exporter": "edge",
    "nginx-exporter": "web",
    "mysqld-exporter": "data",
    "node-exporter": "mgmt",
    "prometheus": "mgmt",
    "alertmanager": "mgmt",
    "pager": "mgmt",
    "grafana": "mgmt",
    "logs": "mgmt",
}
"""The zone of every node, in the order in which a request meets them; then what watches."""

MONITORING: tuple[str, ...] = tuple(ZONES)[list(ZONES).index("agent-edge") :]
"""What watches the others: on no visitor's way."""


BALANCERS: tuple[str, ...] = ("lb1", "lb2")
MOST_SERVERS = 8
"""Of a tier that grows: the balancers keep a place for so many web servers (WEB_SLOTS in compose/stages/stage3.env)."""


def kind(node: str) -> str:
    """What a node is, without its number."""
    return node.rstrip("0123456789")


def number(node: str) -> int:
    """A node's number; 0 if it is the only one of its kind."""
    return int(node.removeprefix(kind(node)) or 0)


def zone(node: str) -> str:
    """The zone of a node, one that `make scale` made included."""
    return ZONES.get(node) or ZONES[f"{kind(node)}1"]


def is_database(node: str) -> bool:
    """Is this node one that holds data of the site?"""
    return zone(node) == "data" and node not in MONITORING


@dataclass(frozen=True)
class Stage:
    """One rung of the ladder."""

    number: int
    title: str
    nodes: tuple[str, ...]
    """Containers that run all the time, in the order in which a request meets them."""
    try_next: tuple[str, ...]
    """Commands that show what this rung can and can't, for the end of `up`."""
    firewalls: bool = False
    """Every server drops what no policy lets through."""
    https: bool = False
    """The front door speaks HTTPS, and HTTP only to say so."""
    promotes: bool = False
    """A replica confirms every write, and can be made the primary by a command."""
    apart: bool = False
    """Each container is a server of its own: tiers grow one by one, and there is no server1."""

    @property
    def profile(self) -> str:
        """The Compose profile that selects the stage."""
        return f"stage{self.number}"

    @property
    def databases(self) -> tuple[str, ...]:
        """The database nodes of the stage."""
        return tuple(node for node in self.nodes if is_database(node))

    @property
    def balancers(self) -> tuple[str, ...]:
        """The balancers of the stage."""
        return self.of("lb")

    @property
    def paired(self) -> bool:
        """Two balancers share an address."""
        return len(self.balancers) > 1

    @property
    def servers(self) -> dict[str, tuple[str, ...]]:
        """The groups that live and die together."""
        return {} if self.apart else {name: group for name, group in SERVERS.items() if group[0] in self.nodes}

    def of(self, wanted: str) -> tuple[str, ...]:
        """The nodes of a kind."""
        return tuple(node for node in self.nodes if kind(node) == wanted)

    def scaled(self, web: int, app: int) -> "Stage":
        """The same with so many web and application servers, where tiers are apart."""
        if not self.apart:
            return self
        tiers = {"web1": ("web", web), "app1": ("app", app)}
        found: list[str] = []
        for node in self.nodes:
            if node in tiers:
                tier, count = tiers[node]
                found += [f"{tier}{ordinal}" for ordinal in range(1, count + 1)]
            elif kind(node) not in ("web", "app"):
                found.append(node)
        return replace(self, nodes=tuple(found))

    def without(self, *nodes: str) -> "Stage":
        """The same, with these left out (Settings.left_out)."""
        return replace(self, nodes=tuple(node for node in self.nodes if node not in nodes))

    @property
    def monitored(self) -> bool:
        """It has a collector."""
        return "prometheus" in self.nodes

    @property
    def logged(self) -> bool:
        """It has a collector of logs."""
        return "logs" in self.nodes


JOBS: tuple[str, ...] = ("migrate",)
"""Containers that do one thing at every `up`, then end."""

STAGES: tuple[Stage, ...] = (
    Stage(
        0,
        "simple",
        ("edge", "dns", "web1", "app1", "db1"),
        (
            "make kill NODE=app1      any part down is the site down",
            "make up STAGE=1          a second server, a balancer, a replica",
        ),
    ),
    Stage(
        1,
        "distributed",
        ("edge", "dns", "lb1", "web1", "web2", "app1", "app2", "db1", "db2"),
        (
            "make kill NODE=server2   nobody who reads will notice",
            "make kill NODE=lb1       everybody will: the balancer is the single point of failure",
            "make heal                undo every fault",
        ),
    ),
    Stage(
        2,
        "secured",
        ("edge", "dns", "lb1", "web1", "web2", "app1", "app2", "db1", "db2", *MONITORING),
        (
            "make qps                 requests a second of every layer, live",
            "make logs REQUEST=…      one request through all layers, by its X-Request-ID",
            "make firewall            every rule, with what it let through and dropped",
            "make firewall WATCH=1    drops as they happen; try a door from another terminal:",
            "docker compose exec lb1 timeout 2 bash -c 'echo > /dev/tcp/app1/8000'",
        ),
        firewalls=True,
        https=True,
    ),
    Stage(
        3,
        "scaled",
        ("edge", "dns", "lb1", "lb2", "web1", "web2", "app1", "app2", "db1", "db2", *MONITORING),
        (
            "make vip                 which balancer holds the address",
            "make kill NODE=lb        the other one has it half a second later",
            "make scale APP=4         two more application servers, while visitors come",
            "make promote             the replica becomes the primary, and nobody notices",
            "make deploy              a new version; nobody notices",
        ),
        firewalls=True,
        https=True,
        apart=True,
        promotes=True,
    ),
)


def stage_of(value: str) -> Stage:
    """The stage that a user means by "1" or "stage1".

    Raises:
        UserError: there is no such stage.
    """
    allowed = ", ".join(f"{stage.number} ({stage.title})" for stage in STAGES)
    if not value:
        raise UserError(f"which stage? Say for example: make up STAGE=1. There are {allowed}.")
    for stage in STAGES:
        if value in (str(stage.number), stage.profile):
            return stage
    raise UserError(f"there is no stage {value!r}. There are {allowed}: make up STAGE=1")
