"""Requests a second of every layer side by side, from the collector: live on a terminal, once elsewhere."""

import math
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ladder.collector import Sample, ask
from ladder.settings import Settings

EVERY = 2.0
"""Seconds between two pictures; the collector has new values every five."""
BAR = 24
"""Width of the longest bar."""
LAYERS = ("visitors", "balancer", "web", "app", "database")
QUESTION = (
    '{__name__=~"instance:(requests:rate20s|errors:ratio20s|request_seconds:(avg|p50_1m|p95_1m)|saturation:ratio)"}'
)
SILENT = "instance:up:bool == 0 or probe_success == 0"
Key = tuple[str, str, str]


def show(settings: Settings, out: Console) -> None:
    """Print the figures; on a terminal again and again, until Ctrl-C.

    Raises:
        UserError: no monitoring on this stage, or the collector doesn't answer.
    """
    if not out.is_terminal:
        out.print(table(settings))
        return
    try:
        with Live(table(settings), console=out, auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(EVERY)
                live.update(table(settings), refresh=True)
    except KeyboardInterrupt:
        return


def table(settings: Settings) -> Table:
    """One picture of all layers."""
    return draw(ask(settings, QUESTION), ask(settings, SILENT))


def draw(samples: list[Sample], silent: list[Sample]) -> Table:
    """The figures of the rules, and who does not answer, as a table."""
    figures = {name: by_key(samples, name) for name in sorted({s.labels["__name__"] for s in samples})}
    rates = figures.get("instance:requests:rate20s", {})
    most = max((rate for rate in rates.values() if not math.isnan(rate)), default=0.0)
    shown = Table(title="requests a second, over the last 20 s", title_justify="left")
    for column in ("layer", "server"):
        shown.add_column(column)
    for column in ("requests/s", "errors", "mean", "half", "95 %", "busy"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("", min_width=BAR)
    for key in sorted(rates, key=lambda k: (LAYERS.index(k[0]), k[1], k[2])):
        layer, server, operation = key
        rate = rates[key]
        errors = figures.get("instance:errors:ratio20s", {}).get(key)
        times = [figures.get(f"instance:request_seconds:{name}", {}).get(key) for name in ("avg", "p50_1m", "p95_1m")]
        shown.add_row(
            f"{layer}, {operation}s" if operation else layer,
            server,
            f"{rate:.1f}",
            "" if errors is None else f"[red]{errors:.1%}[/]" if errors else "0 %",
            *(milliseconds(seconds) for seconds in times),
            # A server is as busy with the one operation as with the other.
            share(figures.get("instance:saturation:ratio", {}).get((layer, server, ""))),
            "█" * round(BAR * rate / most) if most else "",
        )
    if gone := sorted({sample.labels["instance"] for sample in silent}):
        shown.caption = f"[red]no answer:[/] {', '.join(gone)}"
        shown.caption_justify = "left"
    return shown


def by_key(samples: list[Sample], name: str) -> dict[Key, float]:
    """The values of one rule by layer, server and operation."""
    return {
        (s.labels["layer"], s.labels["instance"], s.labels.get("operation", "")): s.value
        for s in samples
        if s.labels["__name__"] == name
    }


def milliseconds(seconds: float | None) -> str:
    """For people; nothing where nothing was asked."""
    return "" if seconds is None or math.isnan(seconds) else f"{1000 * seconds:.0f} ms"


def share(part: float | None) -> str:
    """For people."""
    return "" if part is None else f"{part:.0%}"
