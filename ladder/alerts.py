"""What is wrong now, as the collector knows it, and what has been told to whoever is to be told."""

import json
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from ladder.collector import ask
from ladder.engine import containers
from ladder.errors import UserError
from ladder.nodes import demand, stage_in_force
from ladder.settings import Settings

FIRING = 'ALERTS{alertstate="firing",alertname!="Watchdog"}'
"""One always fires, so that the pager can miss it (prometheus/alerts.yml)."""
TOLD = 20
"""Messages that are shown."""


def firing(settings: Settings) -> set[tuple[str, str]]:
    """(alert, instance) of what is wrong now; an alert that is about none has "".

    Raises:
        UserError: this stage is not monitored, or the collector doesn't answer.
    """
    return {(sample.labels["alertname"], sample.labels.get("instance", "")) for sample in ask(settings, FIRING)}


def told(settings: Settings) -> Iterator[dict[str, str]]:
    """Every message since the pager was created, the oldest first.

    Raises:
        UserError: there is none.
    """
    pager = containers(settings).get("pager")
    if pager is None:
        raise UserError("pager has no container; create it again: make heal")
    for line in pager.logs(stderr=False).decode(errors="replace").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def table(settings: Settings) -> Table:
    """What is wrong now, and the last messages; these as well when the collector, which knows the first, is dead.

    Raises:
        UserError: this stage is not monitored, or there is no pager.
    """
    stage = stage_in_force(settings)
    demand(stage, "monitored")
    try:
        now = summary(sorted(firing(settings)))
    except UserError as error:
        now = f"[red]{escape(str(error))}[/]"
    shown = Table(title=f"stage {stage.number}: {now}", title_justify="left")
    for column in ("told at", "state", "alert", "what", "look further"):
        shown.add_column(column, no_wrap=column != "what")
    for message in list(told(settings))[-TOLD:]:
        style = "green" if message["state"] == "over" else "red" if message["severity"] == "critical" else "yellow"
        at = message["time"][11:19]
        shown.add_row(at, f"[{style}]{message['state']}[/]", message["alert"], message["summary"], message["look"])
    return shown


def summary(wrong: list[tuple[str, str]]) -> str:
    """What is wrong now, in words."""
    if not wrong:
        return "no alert now"
    return "now: " + ", ".join(f"{alert} ({instance})" if instance else alert for alert, instance in wrong)
