"""What each rung promises for each fault: the one table that drills, tests and docs share. Also the list of all drills.

Databases are named by their roles, which move. A promise is broken by a figure above its limit; None promises nothing,
because the rung can't: its true figure is measured and shown. Whatever the rung, no write may ever be applied twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ladder.drills.checker import Verdict


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
READ_ON = Promise(failed_reads=0, read_gap=2.5)
"""Writing is down; readers are answered."""
UNNOTICED = Promise(failed_reads=0, failed_writes=0, read_gap=1, write_gap=1, felt=5)
"""Some requests take seconds, none fails, and somebody is answered all the time."""
FROZEN = Promise(failed_reads=0, failed_writes=3, read_gap=1, write_gap=1, felt=5)
"""The same, but for writes that a server had taken when it froze: the next server finds them under way (409)."""
SLOWED = Promise(failed_reads=0, failed_writes=0, read_gap=1, write_gap=1)
"""It is felt for as long as it lasts; none fails."""
OTHER_NODE = Promise(failed_reads=0, failed_writes=0, read_gap=2.5, write_gap=2.5, felt=5)
"""Nobody is answered until the application gives up the silent replica (READ_TIMEOUT, 1.5 s); none fails."""
FROZEN_SERVER = Promise(failed_reads=0, failed_writes=3, read_gap=2.5, write_gap=2.5, felt=5)
"""Both."""
ANYTHING = Promise(lost=None)
"""Acknowledged writes may be lost as well, and are, on purpose."""


def each(verbs: str, targets: str, promise: Promise) -> dict[str, Promise]:
    """The same promise for every one of these verbs on every one of these targets."""
    return {f"{verb} {target}": promise for verb in verbs.split() for target in targets.split()}


PROMISES: dict[int, dict[str, Promise]] = {
    0: {
        **each("kill pause partition", "dns", UNNOTICED),
        **each("kill pause partition", "edge web1 app1 primary server1", NOTHING_LOST),
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
        **each("kill partition", "dns web1 web2 app1 app2", UNNOTICED),
        **each("pause", "dns web1 web2 app1 app2", FROZEN),
        **each("kill pause partition", "replica", OTHER_NODE),
        **each("kill partition", "server2", OTHER_NODE),
        **each("pause", "server2", FROZEN_SERVER),
        **each("kill pause partition", "edge lb1", NOTHING_LOST),
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

PROMISES[2] = PROMISES[1]
"""Firewalls take nothing from what visitors feel, and give nothing."""


def promise(stage: int, faults: str) -> Promise:
    """What a stage promises; for a fault that isn't in the table, only that no write is applied twice."""
    return PROMISES.get(stage, {}).get(faults, ANYTHING)


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
        ("things missing at the end", int(verdict.redundant is None), 0),
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
