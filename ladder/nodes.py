"""Which containers a name means: a container, a server (a group of them), or a role."""

from docker.models.containers import Container

from ladder import pair, replication
from ladder.engine import containers
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import STAGES, Stage, stage_of

ROLES = ("primary", "replica")
BALANCER_ROLES = ("lb", "standby")
"""Of two balancers, who holds the address that they share, and who waits for it; of two addresses, the first counts."""


def stage_in_force(settings: Settings) -> Stage:
    """The stage that was last brought up, as it was.

    Raises:
        UserError: none was.
    """
    if not settings.profile:
        raise UserError("no stage is up; bring one up first: make up STAGE=1")
    stage = stage_of(settings.profile).scaled(settings.web_servers, settings.app_servers)
    return stage.without(*settings.left_out)


LACKS = {
    "firewalls": "has no firewall",
    "https": "has no HTTPS",
    "monitored": "is not monitored",
    "logged": "collects no logs",
    "paired": "has no second balancer",
    "promotes": "can't promote a replica",
    "apart": "can grow only by whole servers",
}
"""What is said of a stage without it, by the name of Stage's field."""


def demand(stage: Stage, field: str) -> None:
    """Go on with a stage that has this.

    Raises:
        UserError: it hasn't, with the first that has.
    """
    if not getattr(stage, field):
        first = next(each.number for each in STAGES if getattr(each, field))
        lacks = f"stage {stage.number} {LACKS[field]}, which is one of its faults"
        raise UserError(f"{lacks}; try: make up STAGE={first}")


def meant(settings: Settings, name: str) -> tuple[str, ...]:
    """The nodes that a name means on the running stage, whether they have a container or not.

    Raises:
        UserError: unknown here, with the names that are known.
    """
    stage = stage_in_force(settings)
    present = containers(settings)
    if not any(node in present for node in stage.nodes):
        raise UserError(f"stage {stage.number} is not up; bring it up first: make up STAGE={stage.number}")
    if not name:
        raise UserError(f"which one? Say NODE=…: {known(stage)}")
    if name in ROLES:
        holders = tuple(n for n in stage.databases if n in present and replication.role(present[n]) == name)
        if not holders:
            raise UserError(f"no database is {name} at the moment; see: make replication")
        return holders
    if stage.paired and name in BALANCER_ROLES:
        return balancers(settings, stage, name)
    if name not in stage.servers and name not in stage.nodes:
        raise UserError(f"stage {stage.number} has no {name!r}. It has {known(stage)}")
    return stage.servers.get(name, (name,))


def balancers(settings: Settings, stage: Stage, role: str) -> tuple[str, ...]:
    """Who of two balancers has a role.

    Raises:
        UserError: nobody holds the address, or both do.
    """
    holding = pair.holders(settings, stage)
    if len(holding) != 1:
        who = "both balancers hold" if holding else "no balancer holds"
        raise UserError(f"{who} the address at the moment; see: make vip")
    return tuple(node for node in stage.balancers if (node in holding) == (role == "lb"))


def targets(settings: Settings, name: str) -> dict[str, Container]:
    """The containers that a name means on the running stage, by node name.

    Raises:
        UserError: unknown here, with the names that are known; or one of them is gone.
    """
    wanted = meant(settings, name)
    present = containers(settings)
    if gone := [node for node in wanted if node not in present]:
        raise UserError(f"{', '.join(gone)} has no container; create it again: make heal")
    return {node: present[node] for node in wanted}


def known(stage: Stage) -> str:
    """Every name that means something on a stage, in words."""
    roles = ROLES if len(stage.databases) > 1 else ROLES[:1]
    return ", ".join((*stage.nodes, *stage.servers, *roles, *(BALANCER_ROLES if stage.paired else ())))
