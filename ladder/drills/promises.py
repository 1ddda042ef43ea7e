"""What each rung promises for each fault: the one table that drills, tests and docs share. Also the list of all drills.

Databases are named by their roles, which move. A promise is broken by a figure above its limit; None promises nothing,
because the rung can't: its true figure is measured and shown. Whatever the rung, no write may ever be applied twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ladder.drills.checker import Verdict

Limit = TypeVar("Limit", int, float)


@dataclass(frozen=True)
class Promise:
    """Limits for one drill; times in seconds, defined as in Verdict."""

    failed_reads: int | None = None
    failed_writes: int | None = None
    read_gap: float | None = None
    write_gap: float | None = None
    felt: float | None = None
    """By readers and writers."""
    lost: int | None = 0


NOTHING_LOST = Promise()
"""The site, or writing, is down; but what was acknowledged is there when it comes back."""
READ_ON = Promise(failed_reads=0, read_gap=4)
"""Writing is down; readers are answered."""
UNNOTICED = Promise(failed_reads=0, failed_writes=0, read_gap=2, write_gap=2, felt=8)
"""Some requests take seconds, none fails, and somebody is answered all the time (on a busy machine with a pause)."""
SILENT = Promise(failed_reads=1, failed_writes=3, read_gap=2, write_gap=2, felt=8)
"""The same, but for what a server had under way when it froze or was cut off: a write, which the next server finds
begun (409; thawed or connected again, the first one ends it), and a page half sent, which nobody can send again."""
SLOWED = Promise(failed_reads=0, failed_writes=0, read_gap=2, write_gap=2)
"""It is felt for as long as it lasts; none fails."""
OTHER_NODE = Promise(failed_reads=0, failed_writes=0, read_gap=4, write_gap=4, felt=8)
"""Nobody is answered until the application gives up the silent replica (READ_TIMEOUT, 1.5 s); none fails."""
SILENT_SERVER = Promise(failed_reads=1, failed_writes=3, read_gap=4, write_gap=4, felt=8)
"""Both."""
SWITCHED = Promise(failed_reads=0, failed_writes=0, read_gap=2, write_gap=4, felt=8)
"""Writes wait for the next primary; none fails."""
ANYTHING = Promise(lost=None)
"""Acknowledged writes may be lost as well, and are, on purpose; with them the writers' account, so writes may end."""


def each(verbs: str, targets: str, promise: Promise) -> dict[str, Promise]:
    """The same promise for every one of these verbs on every one of these targets."""
    return {f"{verb} {target}": promise for verb in verbs.split() for target in targets.split()}


PROMISES: dict[int, dict[str, Promise]] = {
    0: {
        **each("kill pause partition", "dns", UNNOTICED),
        **each("kill pause partition", "edge web1 app1 primary server1", NOTHING_LOST),
        "pause edge": UNNOTICED,  # its kernel does the work
        **each("stop", "web1 app1 primary", NOTHING_LOST),
        **each("crash", "app1 primary", NOTHING_LOST),
        **each("restart", "web1", NOTHING_LOST),
        **each("recreate slow", "app1", NOTHING_LOST),
        "wipe primary": ANYTHING,
        "power-cut": NOTHING_LOST,
        "deploy": NOTHING_LOST,
        "kill app1 then kill app1": NOTHING_LOST,
    },
    1: {
        **each("kill pause partition", "dns", UNNOTICED),
        **each("kill", "web1 web2 app1 app2", UNNOTICED),
        **each("pause partition", "web1 web2 app1 app2", SILENT),
        **each("kill pause partition", "replica", OTHER_NODE),
        **each("kill", "server2", OTHER_NODE),
        **each("pause partition", "server2", SILENT_SERVER),
        **each("kill pause partition", "edge lb1", NOTHING_LOST),
        "pause edge": UNNOTICED,
        **each("kill pause partition", "primary server1", READ_ON),
        **each("stop", "web1 app1 replica", UNNOTICED),
        **each("stop crash restart", "lb1", NOTHING_LOST),
        **each("stop crash restart", "primary", READ_ON),
        **each("crash", "app1", UNNOTICED),
        **each("restart", "web1", UNNOTICED),
        **each("recreate", "app1 replica", UNNOTICED),
        **each("slow", "web1 app1", SLOWED),
        **each("slow", "replica", UNNOTICED),
        "wipe replica": UNNOTICED,
        "wipe primary": Promise(failed_reads=0, lost=None),
        "partition replica and wipe primary": ANYTHING,
        "power-cut": NOTHING_LOST,
        "deploy": UNNOTICED,
        "kill web1 then kill web2": UNNOTICED,
        "kill server2 then kill server1": READ_ON,
    },
}

PROMISES[2] = (
    PROMISES[1] | {"renew": UNNOTICED, "reload": UNNOTICED} | each("kill", "prometheus agent-web logs", UNNOTICED)
)
"""Firewalls and HTTPS take nothing from what visitors feel, and give nothing; what watches is on nobody's way."""

TAKEN_OVER = Promise(failed_reads=150, failed_writes=30, read_gap=2, write_gap=2, felt=8)
"""The other balancer takes the address: what was under way over the first fails, and so does whoever comes in the half
second until then (on a busy machine, longer); then all is as before."""
DEAF = Promise(failed_reads=150, failed_writes=30, read_gap=8, write_gap=8, felt=16)
"""It speaks and does not hear: what it says of the address is believed, until it sees, after some 3 s, that it reaches
nobody."""

PROMISES[3] = {
    **each("kill pause partition crash", "lb", TAKEN_OVER),
    "crash lb keepalived": TAKEN_OVER,
    "partition lb standby": TAKEN_OVER,
    **each("stop restart", "lb", UNNOTICED),
    **{f"partition {role} in": DEAF for role in ("lb", "standby")},
    **each("kill pause partition stop", "standby", UNNOTICED),
    "lose lb 10": TAKEN_OVER,
    "promote": SWITCHED,
    "promote then promote": SWITCHED,
    **{f"{verb} primary and promote": READ_ON for verb in ("kill", "pause", "partition")},
    "scale APP=4 then scale APP=2": UNNOTICED,
    "scale WEB=3 then scale WEB=2": UNNOTICED,
    "kill app1 then kill app2": UNNOTICED,
} | {fault: limits for fault, limits in PROMISES[2].items() if not fault.endswith(" lb1") and "server" not in fault}
"""Tiers are apart: there is no server1 to be lost, and each tier grows by itself; two balancers share an address."""


def promise(stage: int, faults: str) -> Promise:
    """What a stage promises; for a fault that isn't in the table, only that no write is applied twice.

    For one fault after another, all that each may cost.
    """
    found = PROMISES.get(stage, {})
    parts = [found.get(part, ANYTHING) for part in faults.split(" then ")]
    return found.get(faults) or Promise(
        failed_reads=together(sum, [part.failed_reads for part in parts]),
        failed_writes=together(sum, [part.failed_writes for part in parts]),
        read_gap=together(max, [part.read_gap for part in parts]),
        write_gap=together(max, [part.write_gap for part in parts]),
        felt=together(sum, [part.felt for part in parts]),
        lost=together(sum, [part.lost for part in parts]),
    )


def together(how: Callable[[list[Limit]], Limit], limits: list[Limit | None]) -> Limit | None:
    """The limits as one; None as soon as one of them promises nothing."""
    known = [limit for limit in limits if limit is not None]
    return how(known) if len(known) == len(limits) else None


def broken(promise: Promise, verdict: Verdict) -> Iterator[str]:
    """Every limit that was passed, in words; none means that the promise was kept.

    A void verdict keeps nothing.
    """
    if verdict.void:
        yield f"there is no verdict: {verdict.void}"
        return
    felt = max(verdict.reads.felt, verdict.writes.felt)
    figures = (
        ("failed reads", verdict.reads.bad, promise.failed_reads),
        ("failed writes", verdict.writes.bad, promise.failed_writes),
        ("longest gap of reads in s", round(verdict.reads.gap, 2), promise.read_gap),
        ("longest gap of writes in s", round(verdict.writes.gap, 2), promise.write_gap),
        ("felt for s", round(felt, 2), promise.felt),
        ("acknowledged writes lost", len(verdict.lost), promise.lost),
        ("writes applied twice", len(verdict.twice), 0),
        ("nodes that differ from the primary", len(verdict.differing), 0),
        ("things missing after a healing", int(verdict.redundant is None), 0),
        ("reads down at the end", int(verdict.reads.down_at_end), 0),
        ("writes down at the end", int(verdict.writes.down_at_end), None if promise == ANYTHING else 0),
    )
    for name, figure, limit in figures:
        if limit is not None and figure > limit:
            yield f"{name}: {figure}, promised at most {limit}"


def page() -> str:
    """The whole of docs/promises.md."""
    lines = []
    for number, faults in PROMISES.items():
        for fault, p in faults.items():
            stages = [stage for stage, others in PROMISES.items() if others.get(fault) == p]
            if stages[0] != number:
                continue
            limits = zip(
                (p.failed_reads, p.failed_writes, p.read_gap, p.write_gap, p.felt, p.lost),
                ("", "", " s", " s", " s", ""),
                strict=True,
            )
            cells = ("–" if limit is None else f"{limit:g}{unit}" for limit, unit in limits)
            lines.append(f"| {', '.join(map(str, stages))} | {fault} | {' | '.join(cells)} |")
    return f"""# What each rung promises

The table that drills, tests and docs share, from `ladder/drills/promises.py`: the most that visitors may feel. What a
figure means is in [measuring](measuring.md), what was measured in the [scoreboard](scoreboard.md). "–" promises
nothing: the rung can't. No write is ever applied twice; in the end everything is back and every node holds the same.

| Stages | Fault | Failed reads | Failed writes | Gap of reads | Gap of writes | Felt | Writes lost |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""
