"""Faults: what can be done to a node, and how each is undone.

All are real: signals and packet filters, nothing is pretended inside the servers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from ladder.engine import client
from ladder.errors import UserError
from ladder.settings import Settings

CUT = """
table inet partition
delete table inet partition
table inet partition {
    chain input { type filter hook input priority -300; policy drop; iif lo accept; }
    chain output { type filter hook output priority -300; policy drop; oif lo accept; }
    chain forward { type filter hook forward priority -300; policy drop; }
}
"""
MEND = """
table inet partition
delete table inet partition
"""


@dataclass(frozen=True)
class Fault:
    """One thing that can be done to a running container."""

    verb: str
    done: str
    """What one says afterwards."""
    wanted: str
    """The container's state that it makes sense in."""
    act: Callable[[Settings, Container], None]


def _kill(_: Settings, container: Container) -> None:
    container.kill(signal="SIGKILL")


def _start(_: Settings, container: Container) -> None:
    container.start()


def _pause(_: Settings, container: Container) -> None:
    container.pause()


def _unpause(_: Settings, container: Container) -> None:
    container.unpause()


def _partition(settings: Settings, container: Container) -> None:
    filter_packets(settings, container, CUT)


FAULTS: dict[str, Fault] = {
    fault.verb: fault
    for fault in (
        Fault("kill", "killed (SIGKILL)", "running", _kill),
        Fault("start", "started", "exited", _start),
        Fault("pause", "frozen", "running", _pause),
        Fault("unpause", "thawed", "paused", _unpause),
        Fault("partition", "cut off", "running", _partition),
    )
}


def inflict(settings: Settings, verb: str, found: dict[str, Container]) -> list[str]:
    """Do it to every container, or to none when it makes no sense for one of them. Returns what was done, in words."""
    fault = FAULTS[verb]
    for node, container in found.items():
        # A container that never ran is "created"; it can be started like one that ended.
        state = "exited" if container.status == "created" else container.status
        if state != fault.wanted:
            raise UserError(f"can't {verb} {node}: it is {container.status}; see `make ps`, or undo all: make heal")
    for container in found.values():
        fault.act(settings, container)
    return [f"{node} is {fault.done}" for node in found]


def heal(settings: Settings, found: dict[str, Container]) -> list[str]:
    """Undo every fault of these containers. Returns what was done, in words."""
    done = []
    for node, container in found.items():
        if container.status == "paused":
            container.unpause()
            done.append(f"{node} is thawed")
        if container.status in ("exited", "created"):
            # It starts with a new network namespace: a packet filter of ours is gone with the old one.
            container.start()
            done.append(f"{node} is started")
        elif mend_partition(settings, container):
            done.append(f"{node} is connected again")
    return done


def mend_partition(settings: Settings, container: Container) -> bool:
    """Take the packet filter of `partition` away; False when there was none."""
    return filter_packets(settings, container, MEND, check="list table inet partition")


def filter_packets(settings: Settings, container: Container, rules: str, check: str = "") -> bool:
    """Load nftables rules into a container's network namespace, from a helper that lives for a moment.

    The server itself has neither the tool nor the right. With `check`, an nft command that fails when there is
    nothing to do, False tells that it did.
    """
    script = (f"nft {check} >/dev/null 2>&1 || exit 3; " if check else "") + 'printf %s "$RULES" | nft -f -'
    try:
        client().containers.run(
            f"{settings.project}/edge",
            ["-c", script],
            entrypoint="sh",
            environment={"RULES": rules},
            network_mode=f"container:{container.id}",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            security_opt=["no-new-privileges:true"],
            read_only=True,
            remove=True,
        )
    except docker.errors.ContainerError as error:
        if check and error.exit_status == 3:
            return False
        raise UserError(f"the packet filter of {container.name} could not be set: {error.stderr!r}") from error
    except docker.errors.ImageNotFound as error:
        raise UserError("the image of the edge is missing; build it: make up STAGE=…") from error
    return True
