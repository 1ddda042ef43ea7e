"""Which containers a name means: a container, a server (a group of them), or a role."""

from docker.models.containers import Container

from ladder import replication
from ladder.engine import containers
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import SERVERS, Stage, stage_of

ROLES = ("primary", "replica")


def stage_in_force(settings: Settings) -> Stage:
    """The stage that was last brought up.

    Raises:
        UserError: none was.
    """
    if not settings.profile:
        raise UserError("no stage is up; bring one up first: make up STAGE=1")
    return stage_of(settings.profile)


def meant(settings: Settings, name: str) -> tuple[str, ...]:
    """The nodes that a name means on the running stage, whether they have a container or not.

    Raises:
        UserError: unknown here, with the names that are known.
    """
    stage = stage_in_force(settings)
    present = containers(settings)
    if not any(node in present for node in stage.nodes):
        raise UserError(f"stage {stage.number} is not up; bring it up first: make up STAGE={stage.number}")
    groups = {server: members for server, members in SERVERS.items() if members[0] in stage.nodes}
    if not name:
        raise UserError(f"which one? Say NODE=…: {known(stage)}")
    if name in ROLES:
        holders = tuple(n for n in stage.databases if n in present and replication.role(present[n]) == name)
        if not holders:
            raise UserError(f"no database is {name} at the moment; see: make replication")
        return holders
    if name not in groups and name not in stage.nodes:
        raise UserError(f"stage {stage.number} has no {name!r}. It has {known(stage)}")
    return groups.get(name, (name,))


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
    servers = [server for server, members in SERVERS.items() if members[0] in stage.nodes]
    roles = ROLES if len(stage.databases) > 1 else ROLES[:1]
    return ", ".join((*stage.nodes, *servers, *roles))
