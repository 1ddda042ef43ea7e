"""Every drill on every stage, in a stack of its own, and the scoreboard. Interrupted, it goes on where it was."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ladder import aside, images, settings, stack
from ladder.drills import drill, record, scoreboard
from ladder.drills.checker import check
from ladder.drills.promises import PROMISES, broken, page
from ladder.drills.scoreboard import Result
from ladder.errors import UserError
from ladder.redundancy import missing as missing_in
from ladder.settings import ROOT, Settings
from ladder.stages import stage_of

RECORDS = ROOT / ".ladder/scoreboard"


def run(runs: int, step: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Run what is still missing of so many runs of every drill, then write docs/scoreboard.md and the README's part.

    Interrupted, it writes what there is.
    A drill that is refused, because the machine is too busy for example, does not keep the others from being run.

    Raises:
        UserError: a promise was broken, a drill had no verdict (the scoreboard says so too) or was refused.
    """
    refused = []
    results = [result for path in sorted(RECORDS.glob("*.jsonl")) if (result := judged(path, say))]
    if wanted := list(missing(results, runs)):
        os.environ.update(aside.values("scoreboard"))
        try:
            for stage, fault in wanted:
                step(f"stage {stage}: {fault}")
                try:
                    path = drill.conduct(ready(stage), drill.plan(fault), say, RECORDS)
                except UserError as error:
                    refused.append(f"  stage {stage}, {fault}: {error}")
                    say(str(error))
                else:
                    results += filter(None, [judged(path, say)])
        finally:
            if results:
                write(results)
            values = settings.load()
            stack.down(values, wipe=True)
            images.forget(values)
    else:
        write(results)
    bad = [f"  stage {r.stage}, {r.faults}: {r.record}" for r in results if not r.kept]
    if bad or refused:
        broken_ones = ["promises broken:", *bad] if bad else []
        missing_ones = ["refused, and still to be run (say it again):", *refused] if refused else []
        raise UserError("\n".join([*broken_ones, *missing_ones]))


def judged(path: Path, say: Callable[[str], None]) -> Result | None:
    """The result that a record holds; None if it was interrupted, is of another stack, or of no drill of ours."""
    found = record.load(path)
    begin = found.begin
    if begin.faults not in PROMISES.get(begin.stage, {}) or not found.stored or not drill.same_stack(begin.commit):
        say(f"does not count: {path.relative_to(ROOT)}")
        return None
    verdict = check(found)
    kept = not list(broken(PROMISES[begin.stage][begin.faults], verdict))
    return Result(begin.stage, begin.faults, str(path.relative_to(ROOT)), begin.commit, verdict, kept)


def missing(results: list[Result], runs: int) -> Iterator[tuple[int, str]]:
    """What is to be run, stage by stage, so that each is brought up once."""
    done = [(result.stage, result.faults) for result in results]
    for stage, promises in PROMISES.items():
        for turn in range(runs):
            yield from ((stage, fault) for fault in promises if done.count((stage, fault)) <= turn)


def ready(stage: int) -> Settings:
    """The settings of a stage that is up and whole."""
    values = settings.load()
    wanted = stage_of(str(stage))
    if values.profile != wanted.profile or missing_in(values, wanted):
        stack.up(values, wanted)
    return settings.load()


def write(results: list[Result]) -> None:
    """Write docs/scoreboard.md, docs/promises.md and the README's excerpt."""
    scores = scoreboard.table(
        results, date=f"{datetime.now(UTC):%Y-%m-%d}", machine=drill.machine(), commit=results[-1].commit
    )
    (ROOT / "docs/scoreboard.md").write_text(scores, encoding="utf-8")
    (ROOT / "docs/promises.md").write_text(page(), encoding="utf-8")
    readme = ROOT / "README.md"
    text = scoreboard.insert(readme.read_text(encoding="utf-8"), scoreboard.short(results))
    readme.write_text(text, encoding="utf-8")
