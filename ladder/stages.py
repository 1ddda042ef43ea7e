"""The one table of what exists on which rung; `ps`, the tests and the docs read it.

That the Compose files say the same is a test (tests/config/test_stages.py). Roles of databases are not in it:
they move.
"""

from dataclasses import dataclass

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
    "web1": "web",
    "web2": "web",
    "app1": "web",
    "app2": "web",
    "db1": "data",
    "db2": "data",
}
"""The zone of every node, in the order in which a request meets them."""


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

    @property
    def profile(self) -> str:
        """The Compose profile that selects the stage."""
        return f"stage{self.number}"

    @property
    def databases(self) -> tuple[str, ...]:
        """The database nodes of the stage."""
        return tuple(node for node in self.nodes if ZONES[node] == "data")


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
        ("edge", "dns", "lb1", "web1", "web2", "app1", "app2", "db1", "db2"),
        (
            "make firewall            every rule, with what it let through and dropped",
            "make firewall WATCH=1    drops as they happen; try a door from another terminal:",
            "docker compose exec lb1 timeout 2 bash -c 'echo > /dev/tcp/app1/8000'",
        ),
        firewalls=True,
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
