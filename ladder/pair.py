"""The pair of balancers: which of the two holds the address that they share, by their own account and by the edge's.

With LB_CLUSTER=active-active they share two, and each has one of them at home.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from docker.models.containers import Container

from ladder.engine import containers, exec_in
from ladder.settings import Settings
from ladder.stages import BALANCERS, Stage

ASK = "cat /run/pair/balancer && hostname -I"
SAYS = {"0": "well", "-10": "well, and the other is", "-254": "HAProxy is silent, or reaches nobody"}
"""What lb-watch tells keepalived (haproxy/lb-watch)."""


@dataclass(frozen=True)
class Seat:
    """One balancer, as it sees itself."""

    holds: tuple[str, ...]
    """The shared addresses that it has."""
    value: str
    """What lb-watch tells keepalived of its HAProxy."""

    @property
    def says(self) -> str:
        """The same in words."""
        return SAYS.get(self.value, self.value)

    @property
    def well(self) -> bool:
        """Its HAProxy answers."""
        return self.value in ("0", "-10")

    @property
    def settled(self) -> bool:
        """It holds the address, and has seen since that the other is well."""
        return self.value == "-10"


def addresses(settings: Settings) -> tuple[str, ...]:
    """The address that the two share, or both (compose/stages/stage3.env)."""
    last = (10, 9) if settings.lb_cluster == "active-active" else (10,)
    return tuple(f"{settings.subnet_prefix}.1.{each}" for each in last)


def homes(settings: Settings) -> dict[str, str]:
    """The balancer that each address goes back to; none where there is one, which stays where it is."""
    shared = addresses(settings)
    return dict(zip(shared, BALANCERS, strict=True)) if len(shared) > 1 else {}


def ask(settings: Settings, balancer: Container | None) -> Seat | None:
    """How one of the two sees itself; None when it can't be asked: dead, or frozen."""
    if balancer is None or balancer.status != "running":
        return None
    said = exec_in(balancer, ["as-server", "sh", "-c", ASK])
    if not said:
        return None
    value, *own = said.split()
    return Seat(tuple(address for address in addresses(settings) if address in own), value)


def seats(settings: Settings, stage: Stage) -> dict[str, Seat | None]:
    """How each of the two sees itself."""
    present = containers(settings)
    return {node: ask(settings, present.get(node)) for node in stage.balancers}


def holding(found: Mapping[str, Seat | None], address: str) -> list[str]:
    """The balancers that say that they hold an address: one; none, or both, for a moment."""
    return [node for node, seat in found.items() if seat and address in seat.holds]


def holders(settings: Settings, stage: Stage) -> list[str]:
    """Those that say that they hold the address, of two the first."""
    return holding(seats(settings, stage), addresses(settings)[0])


def reached(settings: Settings, stage: Stage, address: str = "") -> str:
    """The balancer that the edge sends visitors to, "" when it knows none: whose network card the address leads to.

    Of two addresses the first, if none is said.
    """
    present = containers(settings)
    edge = present.get("edge")
    words = ["ip", "neighbour", "show", address or addresses(settings)[0]]
    said = exec_in(edge, words) if edge and edge.status == "running" else None
    network = f"{settings.project}_edge"
    for node in stage.balancers:
        card = present[node].attrs["NetworkSettings"]["Networks"][network]["MacAddress"] if node in present else ""
        if card and card in (said or "").split():
            return node
    return ""
