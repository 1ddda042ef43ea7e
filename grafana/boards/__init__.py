"""The boards, one file for each question asked; `make up` writes them as JSON (ladder/boards.py).

Read next: panels.py.
"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.boards import balancer, databases, firewalls, glance, servers

BUILDERS = (glance.BOARD, balancer.BOARD, servers.BOARD, databases.BOARD, firewalls.BOARD)


def boards() -> list[Dashboard]:
    """All of them, their panels numbered: a link leads to the same panel after the next `make up`."""
    built = [builder.build() for builder in BUILDERS]
    for board in built:
        for link in board.links or []:
            # At the top of the board; the SDK would put it into a menu.
            link.placement = None  # type: ignore[assignment]
        for number, panel in enumerate(board.panels or [], start=1):
            panel.id_val = number
    return built
