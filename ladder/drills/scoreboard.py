"""The scoreboard: the tables that are made of the results of drills.

Nothing here runs a drill; ladder/drills/campaign.py does.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ladder.drills.checker import SLOW, Stream, Verdict
from ladder.drills.promises import PROMISES
from ladder.errors import UserError
from ladder.stages import stage_of

KINDS = (
    *("kill", "stop", "crash", "pause", "partition", "slow", "lose"),
    *("restart", "recreate", "wipe", "power-cut", "deploy", "scale", "promote", "reload", "renew"),
    "several",
)
"""The groups of rows, in their order; two faults in one drill are "several"."""
STORY = (
    "kill web1",
    "kill app1",
    "kill replica",
    "kill primary",
    "kill server1",
    "kill lb1",
    "kill lb",
    "power-cut",
    "deploy",
)
"""The rows of the README's excerpt."""
OPENING, CLOSING = "<!-- scoreboard -->", "<!-- /scoreboard -->"
"""Between these the README has the excerpt."""


@dataclass(frozen=True)
class Result:
    """One run of one drill."""

    stage: int
    faults: str
    record: str
    """Its file."""
    date: str
    """Of the day, ISO 8601, UTC."""
    commit: str
    machine: str
    verdict: Verdict
    kept: bool
    """The stage's promise."""


def table(results: Sequence[Result]) -> str:
    """The whole of docs/scoreboard.md."""
    judged = [each.verdict for each in results if not each.verdict.void]
    reads, writes = (median(sent) if sent else 0 for sent in ([s.sent for s in each] for each in streams_of(judged)))
    faults = list(dict.fromkeys(each.faults for each in results))
    faults.sort(key=lambda each: KINDS.index(kind(each)))
    return f"""# Scoreboard

What visitors felt: a row for each [fault](faults/), a column for each rung. A drill sends {reads:,.0f} reads and
{writes:,.0f} writes (medians) before, during and after the fault.
[How this is measured, and what it doesn't say](measuring.md).

{grid(results, faults)}

- 🟢 no request failed, and somebody was answered all the time · 🟡 some failed, all waited, or only reading went on ·
  🔴 the site was down until a person acted, or what was stored is not what was acknowledged.
- **unnoticed**: nobody waited longer than {SLOW} s. **slowest**: how long one visitor waited, while others were served.
  **silent**: for so long nobody was answered. **failed**: no answer, or not the one it should be.
- **down**: it would have stayed so until a person acted. The drill's healing ended it, so the number of those that
  failed only tells how long the drill waited.
- **lost**: acknowledged with 201, and gone in the end; not mentioned, there were none. **twice**: stored more than
  once.
- **back**: from the end of the healing until every server was healthy and every replica had caught up.
- **promise broken**: a figure is above what the rung promises (`ladder/drills/promises.py`). **void**: the machine was
  too busy, or something else kept the drill from showing anything. **–**: this makes no sense on this rung.

{runs(results)} Made by `make scoreboard`:

| Stage | Runs | of each | Date | Commit | Machine |
|---|---|---|---|---|---|
{chr(10).join(made(results))}
"""


def columns(document: str) -> list[int]:
    """The stages that a scoreboard has a column of."""
    header = re.search(r"^\| Fault \|(.*)$", document, re.MULTILINE)
    return [int(number) for number in re.findall(r"(\d+) [^|]+\|", header[1])] if header else []


def short(results: Sequence[Result]) -> str:
    """The README's excerpt."""
    present = {each.faults for each in results}
    return f"""{grid(results, [each for each in STORY if each in present])}

🟢 no request failed · 🟡 some failed, all waited, or only reading went on · 🔴 down, or acknowledged writes lost.
**down**: until a person acts. **back**: full redundancy, after the healing. More:
[every drill, with date, machine and commit](docs/scoreboard.md) · [how we measure](docs/measuring.md)"""


def insert(document: str, excerpt: str) -> str:
    """A document with the excerpt between its markers, and all else as it was.

    Raises:
        UserError: it hasn't exactly one pair of them.
    """
    before, opening, rest = document.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not (opening and closing) or OPENING in rest or CLOSING in before + after:
        raise UserError(f"README.md needs one {OPENING} and, after it, one {CLOSING}; the scoreboard goes between them")
    return f"{before}{opening}\n{excerpt}\n{closing}{after}"


def kind(faults: str) -> str:
    """The group of a drill."""
    return "several" if " and " in faults or " then " in faults else faults.split()[0]


def grid(results: Sequence[Result], faults: Sequence[str]) -> str:
    """The table itself: these faults down, and across every stage that has results."""
    stages = sorted({each.stage for each in results})
    most = {stage: most_runs([each for each in results if each.stage == stage]) for stage in stages}
    lines = [
        "| Fault | " + " | ".join(f"{stage} {stage_of(str(stage)).title}" for stage in stages) + " |",
        "|---|" + "---|" * len(stages),
    ]
    for fault in faults:
        cells = (
            cell([r for r in results if (r.stage, r.faults) == (stage, fault)], most[stage])
            if fault in PROMISES.get(stage, {})
            else "–"
            for stage in stages
        )
        lines.append(f"| `{fault}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def runs(results: Sequence[Result]) -> str:
    """How many there were, in a sentence."""
    most = most_runs(results)
    each = (
        "one of each drill"
        if most == 1
        else f"up to {most} of each drill; figures are the median and, if a tenth above, the worst"
    )
    void = sum(bool(each.verdict.void) for each in results)
    return f"Runs: {len(results)}, {f'of which {void} void, ' if void else ''}{each}."


def made(results: Sequence[Result]) -> Iterator[str]:
    """When, of what and on what each stage's column was made; all of its commits have the same stack."""
    for stage in sorted({each.stage for each in results}):
        those = [each for each in results if each.stage == stage]
        first, last = min(each.date for each in those), max(each.date for each in those)
        dates = first if first == last else f"{first} to {last}"
        machines = "; ".join(dict.fromkeys(each.machine for each in those))
        yield f"| {stage} | {len(those)} | {most_runs(those)} | {dates} | {those[-1].commit} | {machines} |"


def most_runs(results: Sequence[Result]) -> int:
    """The runs of the drill that ran most often; one without a verdict is run again, and counts for nothing."""
    drills = [(each.stage, each.faults) for each in results if not each.verdict.void]
    return max(map(drills.count, drills), default=0)


def cell(results: Sequence[Result], most: int) -> str:
    """What the runs of one drill showed, for a glance: a light and the gist, then the figures."""
    verdicts = [each.verdict for each in results if not each.verdict.void]
    if not results:
        return "not run"
    if not verdicts:
        return "void"
    reads, writes = streams_of(verdicts)
    lines = [*harm(verdicts), *felt(reads, writes), back(verdicts)]
    lines[0] = f"{light(verdicts)} {lines[0]}"
    if any(not (each.kept or each.verdict.void) for each in results):
        lines.insert(0, "⚠ **promise broken**")
    if len(verdicts) < len(results):
        lines.append(f"{len(results) - len(verdicts)} of {len(results)} void")
    if len(verdicts) < most:
        lines.append(f"runs: {len(verdicts)}")
    return "<br>".join(lines)


def streams_of(verdicts: Sequence[Verdict]) -> tuple[list[Stream], list[Stream]]:
    """The reads and the writes of several runs."""
    return [each.reads for each in verdicts], [each.writes for each in verdicts]


def light(verdicts: Sequence[Verdict]) -> str:
    """The worst run's colour; the words beside it say the same."""
    streams = [stream for verdict in verdicts for stream in verdict.streams]
    if any(
        each.lost or each.twice or each.differing or (each.reads.until_healed and each.writes.until_healed)
        for each in verdicts
    ):
        return "🔴"
    return "🟡" if any(each.until_healed or each.bad or each.gap > SLOW for each in streams) else "🟢"


def felt(reads: Sequence[Stream], writes: Sequence[Stream]) -> Iterator[str]:
    """What readers and writers felt."""
    if all(stream.until_healed for stream in (*reads, *writes)):
        yield f"**down**, {figure([r.bad + w.bad for r, w in zip(reads, writes, strict=True)])} failed"
    elif fine(reads) and fine(writes):
        yield "unnoticed"
    else:
        yield f"reads: {said(reads)}"
        yield f"writes: {said(writes)}"


def fine(streams: Sequence[Stream]) -> bool:
    """Nobody of these had to wait or was turned away."""
    return not any(stream.bad or stream.gap > SLOW or stream.slowest > SLOW for stream in streams)


def said(streams: Sequence[Stream]) -> str:
    """What one kind of visitors felt in several runs."""
    parts = []
    down = sum(stream.until_healed for stream in streams)
    if down:
        parts.append("**down**" if down == len(streams) else f"**down** in {down} of {len(streams)} runs")
    elif any(stream.gap > SLOW for stream in streams):
        parts.append(f"silent {figure([stream.gap for stream in streams], '.1f', ' s')}")
    elif not any(stream.bad for stream in streams) and not fine(streams):
        parts.append(f"slowest {figure([stream.slowest for stream in streams], '.1f', ' s')}")
    if any(stream.bad for stream in streams):
        parts.append(f"{figure([stream.bad for stream in streams])} failed")
    return ", ".join(parts) or "fine"


def harm(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What visitors did not feel, but is worse."""
    if any(each.lost for each in verdicts):
        yield f"**{figure([len(each.lost) for each in verdicts])} lost**"
    if any(each.twice for each in verdicts):
        yield f"**{figure([len(each.twice) for each in verdicts])} twice**"
    if any(each.differing for each in verdicts):
        yield "**databases differ**"


def back(verdicts: Sequence[Verdict]) -> str:
    """How long it took until full redundancy was back."""
    times = [each.redundant for each in verdicts if each.redundant is not None]
    if len(times) == len(verdicts):
        return f"back {figure(times, '.1f', ' s')}"
    return "**not back**" + (f" in {len(verdicts) - len(times)} of {len(verdicts)} runs" if times else "")


def figure(values: Sequence[float], form: str = ",.0f", unit: str = "") -> str:
    """The median and, if it is more than a tenth above and looks different, the worst."""
    middle, worst = format(median(values), form), format(max(values), form)
    much = middle != worst and max(values) > 1.1 * median(values)
    return f"{middle} (worst {worst}){unit}" if much else middle + unit
