"""The way a request came: balancer, web server, app server, database nodes.

Shown as the strip on every page, by /api/served-by, and in the header X-Served-By. The tiers in
front name themselves in request headers, which they also keep visitors from setting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import request

from wall.database import Database, nodes_used

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Journey:
    """Names are None where there is no such station; roles are those of topology.NodeState."""

    lb: str | None
    web: str | None
    app: str
    reads: dict[str, str | int | None]
    writes: dict[str, str | None]


def journey(database: Database, server_name: str) -> Journey:
    """The way of the current request.

    `reads` is the node that answered this request's last read, or, if it has read nothing, the
    node that would; `writes` is the node that accepts writes now.
    """
    snapshot = database.topology.snapshot
    used = nodes_used.get()
    reader = snapshot.node(used[-1] if used else next(iter(snapshot.readers()), None))
    writer = snapshot.node(snapshot.writer)
    return Journey(
        lb=_station("X-Load-Balancer"),
        web=_station("X-Web-Server"),
        app=server_name,
        reads={
            "name": reader.name if reader else None,
            "role": reader.role if reader else None,
            "seconds_behind": reader.seconds_behind if reader else None,
        },
        writes={
            "name": writer.name if writer else None,
            "role": writer.role if writer else None,
        },
    )


def served_by(server_name: str) -> str:
    """The app's part of X-Served-By; each tier in front puts itself before it."""
    return ", ".join([server_name, *dict.fromkeys(nodes_used.get() or [])])


def _station(header: str) -> str | None:
    name = request.headers.get(header, "")
    return name if _NAME.fullmatch(name) else None
