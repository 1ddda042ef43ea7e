"""One request through all layers, by the id that each of them logs.

Balancer, web and application servers print a JSON line a request, and the collector has them all (rsyslog/). A
database prints none, for its statements hold passwords' hashes: it is asked for those that begin with the id, and what
it tells is their digest, in which every value is a question mark (mysql/my.cnf).
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from docker.models.containers import Container
from rich.table import Table
from rich.text import Text

from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.nodes import demand, stage_in_force
from ladder.settings import Settings

ID = re.compile(r"[0-9A-Za-z-]{8,64}")
WHERE = "it is in the answer's header X-Request-ID"
FILES = "/var/log/servers"
LAYERS = {"lb": "balancer", "web": "web", "app": "application", "db": "database"}
"""By kind of server, in the order in which a request meets them."""
FLUSHED_WITHIN = 2.0
"""Seconds until nginx has written its line, which it does once a second."""
LENGTHS = {"total_ms": 1000, "ms": 1000, "seconds": 1}
"""What HAProxy, Gunicorn and nginx call the time that a request took, and how many of its units are a second."""
NOBODY = "<NOSRV>"
"""HAProxy's word for having asked no web server."""
CLOCKS = 0.002
"""Seconds by which two servers' times may seem to differ, read to the millisecond as they are."""
STATEMENTS = """
SELECT JSON_OBJECT(
         'begun', UNIX_TIMESTAMP(NOW(6)) - (this.TIMER_START - h.TIMER_START) / 1e12, 'took', h.TIMER_WAIT / 1e12,
         'digest', h.DIGEST_TEXT, 'rows', h.ROWS_SENT + h.ROWS_AFFECTED, 'errno', h.MYSQL_ERRNO)
  FROM performance_schema.events_statements_history_long AS h
  JOIN performance_schema.events_statements_current AS this
    ON this.THREAD_ID = PS_CURRENT_THREAD_ID() AND this.NESTING_EVENT_ID IS NULL
 WHERE h.SQL_TEXT LIKE '/* {} */%'
"""
"""Its clock is that of the statement that asks."""


@dataclass(frozen=True)
class Step:
    """What one server did for the request."""

    begun: float
    """In seconds since 1970."""
    took: float | None
    """In seconds; None for what has no length, a warning, say."""
    server: str
    what: str

    @property
    def layer(self) -> str:
        """The layer that the server is of."""
        return LAYERS.get(self.server.rstrip("0123456789"), self.server)


def follow(settings: Settings, request: str) -> Table:
    """Every layer's part in a request, in the order of time.

    Raises:
        UserError: this is no id, nobody knows of it, or the stage has no collector that answers.
    """
    if not ID.fullmatch(request):
        raise UserError(f"REQUEST={request!r} is no request's id: 8 to 64 letters, digits and -; {WHERE}")
    stage = stage_in_force(settings)
    demand(stage, "logged")
    present = containers(settings)
    deadline = time.monotonic() + FLUSHED_WITHIN
    while not complete(found := list(collected(present.get("logs"), request))) and time.monotonic() < deadline:
        time.sleep(0.3)
    if not found:
        raise UserError(
            f"no server has a line of the request {request}; {WHERE}. The collector keeps the last 8 MiB or more of "
            "each server, and nothing of the time when it was dead"
        )
    databases = {node: present[node] for node in stage.databases if node in present}
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda container: statements(container, request), databases.values()))
    for node, answer in zip(databases, answers, strict=True):
        found += parse_statements(node, answer or "")
    silent = [node for node, answer in zip(databases, answers, strict=True) if answer is None]
    return table(request, found, silent)


def collected(collector: Container | None, request: str) -> Iterator[Step]:
    """The steps that the collector has lines of.

    Raises:
        UserError: it doesn't answer.
    """
    search = f"grep -hF -e {request} {FILES}/*; true"
    ask = ["timeout", "5", "as-server", "sh", "-c", search]
    said = exec_in(collector, ask) if collector and collector.status == "running" else None
    if said is None:
        raise UserError("the collector of logs does not answer; see: make ps, or undo all faults: make heal")
    return parse(request, said.splitlines())


def statements(container: Container, request: str) -> str | None:
    """What a database node remembers of a request; None when it doesn't answer."""
    if container.status != "running":
        return None
    return exec_in(container, ["timeout", "3", "mysql", "-NBre", STATEMENTS.format(request)])


def complete(steps: Iterable[Step]) -> bool:
    """The balancer has told of it; and a web server, unless the balancer asked none."""
    return any(step.layer == "web" or (step.layer == "balancer" and "→" not in step.what) for step in steps)


def parse(request: str, lines: Iterable[str]) -> Iterator[Step]:
    """The steps in the collector's lines, "time server what-it-said"; none of requests that only mention this one."""
    for line in lines:
        _, server, said = [*line.split(" ", 2), "", ""][:3]
        try:
            fields = json.loads(said)
        except ValueError:
            continue
        if isinstance(fields, dict) and fields.get("id") == request:
            yield step(server, fields)


def step(server: str, fields: dict[str, object]) -> Step:
    """A line of any layer. It is written when the request ends."""
    ended = datetime.fromisoformat(str(fields["time"]).replace("Z", "+00:00")).timestamp()
    if "message" in fields:
        return Step(ended, None, server, f"{fields.get('level', '')} {fields['message']}".strip())
    took = next(float(str(fields[name])) / unit for name, unit in LENGTHS.items() if name in fields)
    words = [fields.get("method"), fields.get("uri"), fields.get("status")]
    if (to := fields.get("upstream")) not in (None, "", NOBODY):
        words += ["→", to]
    return Step(ended - took, took, server, " ".join(str(word) for word in words))


def parse_statements(node: str, answer: str) -> Iterator[Step]:
    """The steps in a database's answer, a JSON object a line."""
    for line in answer.splitlines():
        fields = json.loads(line)
        rows = f"{fields['rows']} row{'' if fields['rows'] == 1 else 's'}"
        what = f"{plain(fields['digest'])}: {'error ' + str(fields['errno']) if fields['errno'] else rows}"
        yield Step(fields["begun"], fields["took"], node, what)


def plain(digest: str) -> str:
    """A digest as people write SQL, if not quite."""
    text = re.sub(r"` \. `", ".", digest).replace("`", "")
    return re.sub(r" ([,)])", r"\1", re.sub(r"\( ", "(", text))


def ordered(steps: Iterable[Step]) -> list[Step]:
    """In the order of time; whoever asks comes before whom he asks, whatever the last millisecond says."""
    depth = list(LAYERS.values())
    return sorted(steps, key=lambda s: s.begun + CLOCKS * (depth.index(s.layer) if s.layer in depth else 0))


def table(request: str, steps: Iterable[Step], silent: Iterable[str]) -> Table:
    """The steps for people; `silent` are the databases that did not answer."""
    found = ordered(steps)
    begun = found[0].begun
    at = datetime.fromtimestamp(begun, UTC)
    shown = Table(title=f"request {request}, {at:%Y-%m-%d %H:%M:%S} UTC", title_justify="left")
    for column in ("after", "takes"):
        shown.add_column(column, justify="right", no_wrap=True)
    for column in ("layer", "server", "what"):
        shown.add_column(column, no_wrap=column != "what", overflow="fold")
    for each in found:
        after, takes = milliseconds(max(0.0, each.begun - begun)), "" if each.took is None else milliseconds(each.took)
        what = "".join(letter if letter.isprintable() else "." for letter in each.what)
        shown.add_row(after, takes, each.layer, each.server, Text(what))
    if missing := ", ".join(silent):
        shown.caption = f"no answer: {missing}"
        shown.caption_justify = "left"
    return shown


def milliseconds(seconds: float) -> str:
    """As precise as there is a use for."""
    return f"{seconds * 1000:.1f} ms"
