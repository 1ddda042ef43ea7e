"""What happens to a container's packets: lost (partition), lost now and then (lose) or late (slow).

Existing connections are met as well.

A server has neither the tool nor the right to filter packets. Helpers do it, in its network namespace: one lives for
a moment and loads rules; one lives as long as the packets shall be late, and delays them (delay.py).
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import docker
from docker.models.containers import Container

from ladder.engine import client
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.wait import wait_until

WAYS = {"both": ("input", "output", "forward"), "in": ("input", "forward"), "out": ("output", "forward")}
"""The chains in which packets are dropped. What a gateway passes on comes in and goes out, so either way loses it."""

# nft's own `queue` is missing from some kernels that have iptables' NFQUEUE. With --queue-bypass packets pass when
# nobody serves the queue. Docker's name service is reached over lo.
LATE = "iptables --table mangle --append POSTROUTING ! --out-interface lo --jump NFQUEUE --queue-num 0 --queue-bypass"

REFUSE = """
table inet rotation
delete table inet rotation
table inet rotation {
    # Where the kernel knows the connection already, so that the refusal belongs to one and passes the firewall.
    chain input {
        type filter hook input priority filter - 5
        iif lo accept
        tcp dport %d tcp flags & (syn | ack) == syn reject with tcp reset
    }
}
"""

# ARP is not IP, and what keepalived says by it passes no chain but this one.
UNCLAIM = """
printf %%s '
table netdev partition
delete table netdev partition
table netdev partition {
    chain egress {
        type filter hook egress devices = $cards priority -300
        ether type arp arp saddr ip { %s } drop
    }
}' | nft --define "cards={ $(ls /sys/class/net | grep -vx lo | paste -sd ,) }" --file -
"""

MENDED = {
    "inet partition": "connected again",
    "netdev partition": "heard again",
    "inet loss": "losing nothing more",
    "ip mangle": "quick again",
    "inet rotation": "in rotation again",
}
"""The table that each fault leaves in the namespace, and what one says when it is taken away."""
TAKE_AWAY = f"""
tables=$(nft list tables 2>/dev/null)
for table in {" ".join(f"'{table}'" for table in MENDED)}; do
    case "$tables
" in *"table $table
"*) nft delete table $table && echo "$table" ;; esac
done
"""

HELPER = "com.foobar.helper"
"""The label of a helper that lives on: the project it belongs to."""
HELPED = "com.foobar.helper.of"
"""The node whose packets it delays or reads."""
READY_WITHIN = 20.0
"""Seconds; a container starts in half a second."""


def drop(settings: Settings, container: Container, way: str, shared: tuple[str, ...] = ()) -> None:
    """Lose what the container sends, receives, or both, to and from others: `way` is one of WAYS.

    What it sends includes its claims, by ARP, to the addresses that it shares with others.
    """
    if shared and "output" in WAYS[way]:
        # First: whoever hears nothing claims it half a second later.
        _in_namespace(settings, container, UNCLAIM % ", ".join(shared))
    chains = "\n".join(
        f"chain {hook} {{ type filter hook {hook} priority -300; policy drop; {except_lo} }}"
        for hook, except_lo in (("input", "iif lo accept;"), ("output", "oif lo accept;"), ("forward", ""))
        if hook in WAYS[way]
    )
    table = "table inet partition"
    _in_namespace(settings, container, f"printf %s '{table}\ndelete {table}\n{table} {{\n{chains}\n}}\n' | nft -f -")


def drop_between(settings: Settings, container: Container, addresses: Iterable[str]) -> None:
    """Lose what the container sends to these addresses, and what comes from there. All else passes."""
    others = ", ".join(addresses)
    table = "table inet partition"
    rules = "\n".join(
        f"chain {hook} {{ type filter hook {hook} priority -300; ip {side} {{ {others} }} drop; }}"
        for hook, side in (("input", "saddr"), ("output", "daddr"))
    )
    _in_namespace(settings, container, f"printf %s '{table}\ndelete {table}\n{table} {{\n{rules}\n}}\n' | nft -f -")


def lose(settings: Settings, container: Container, percent: int) -> None:
    """Lose so many in a hundred of the packets that the container sends to others, each by chance."""
    table = "table inet loss"
    rule = f"oif != lo numgen random mod 100 < {percent} drop;"
    rules = f"chain output {{ type filter hook output priority -300; {rule} }}"
    _in_namespace(settings, container, f"printf %s '{table}\ndelete {table}\n{table} {{\n{rules}\n}}\n' | nft -f -")


def refuse(settings: Settings, container: Container, port: int) -> None:
    """Refuse new connections to a port at once; those that are open go on. Whoever is refused has sent nothing yet."""
    _in_namespace(settings, container, f"printf %s '{REFUSE % port}' | nft -f -")


def is_refusing(settings: Settings, container: Container) -> bool:
    """It refuses new connections (refuse)."""
    return "table inet rotation" in _in_namespace(settings, container, "nft list tables").splitlines()


def delay(settings: Settings, container: Container, seconds: float) -> None:
    """Let everything that the container sends to others leave so many seconds later, in its order.

    Raises:
        UserError: it can't be done here; nothing is late then.
    """
    node = container.labels["com.docker.compose.service"]
    if helpers(settings, [node]):
        mend(settings, container)
    helper = client().containers.run(
        f"{settings.project}/app",
        ["-I", "-c", Path(__file__).with_name("delay.py").read_text(), str(seconds)],
        name=f"{settings.project}-{node}-delay",
        entrypoint="python3",
        user="0",
        labels={HELPER: settings.project, HELPED: node},
        network_mode=f"container:{container.id}",
        cap_drop=["ALL"],
        cap_add=["NET_ADMIN"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        mem_limit="64m",
        pids_limit=8,
        detach=True,
    )

    def ready() -> bool:
        helper.reload()
        if helper.status == "exited":
            said = helper.logs().decode(errors="replace").strip().splitlines()
            raise UserError(f"the packets of {node} can't be delayed: {said[-1] if said else 'its helper ended'}")
        return b"ready" in helper.logs()

    try:
        wait_until(
            ready, within=READY_WITHIN, what=f"the helper that delays the packets of {node} is ready", every=0.05
        )
        _in_namespace(settings, container, LATE)
    except UserError:
        remove_helpers(settings, [node])
        raise


def mend(settings: Settings, container: Container) -> list[str]:
    """Take away what lies in the network namespace of a running container; in words what that was."""
    said = _in_namespace(settings, container, TAKE_AWAY)
    remove_helpers(settings, [container.labels["com.docker.compose.service"]])
    return [MENDED[table] for table in said.splitlines()]


def remove_helpers(settings: Settings, nodes: Iterable[str] | None = None) -> None:
    """Remove the helpers of these nodes, dead or alive; of all nodes when None. What they hold is let go."""
    for helper in helpers(settings, nodes):
        if helper.status == "running":
            helper.stop()
        with suppress(docker.errors.APIError):  # one that reads the wire is removed by the engine (wire.py)
            helper.remove(force=True)


def helpers(settings: Settings, nodes: Iterable[str] | None = None) -> list[Container]:
    """The helpers that delay the packets of these nodes; of all nodes when None."""
    found = client().containers.list(all=True, ignore_removed=True, filters={"label": f"{HELPER}={settings.project}"})
    return [helper for helper in found if nodes is None or helper.labels[HELPED] in nodes]


def _in_namespace(settings: Settings, container: Container, script: str) -> str:
    """What a shell script prints that runs in a container's network namespace, with the right to filter packets."""
    try:
        helper = client().containers.create(
            f"{settings.project}/edge",
            ["-c", script],
            entrypoint="sh",
            network_mode=f"container:{container.id}",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            security_opt=["no-new-privileges:true"],
            read_only=True,
        )
    except docker.errors.ImageNotFound as error:
        raise UserError("the image of the edge is missing; build it: make up STAGE=…") from error
    # The SDK's run(remove=True) removes it before it has read what it said: on a busy machine that is gone then.
    try:
        helper.start()
        failed = helper.wait()["StatusCode"]
        said = bytes(helper.logs(stdout=not failed, stderr=bool(failed))).decode()
    finally:
        helper.remove(force=True)
    if failed:
        raise UserError(f"the packet filter of {container.name} could not be set: {said.strip()}")
    return said
