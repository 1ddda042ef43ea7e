"""Every drill on every stage, in a stack of its own, and the scoreboard. Interrupted, it goes on where it was."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
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
READS, WRITES = 50.0, 10.0
"""A second; half of a drill's usual ones, with which stage 3 fills two cores: what is too much for the machine is not
to count as the fault's doing."""
SECONDS = 8.0
"""How long a fault lasts here: longer than the 6 s after which the balancer gives a silent server up."""


def run(runs: int, stages: Collection[int], step: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Run what is still missing of so many runs of every drill of these stages, then write what all stages have shown.

    That goes into docs/scoreboard.md and the README. Interrupted, it writes what there is.
    A drill that is refused, because the machine is too busy for example, does not keep the others from being run. One
    that had no verdict was no run.

    Raises:
        UserError: a promise was broken (the scoreboard says so too), a drill had no verdict or was refused. Or a column
            of the scoreboard would get lost; nothing was run then.
    """
    refused = []
    found = [result for path in sorted(RECORDS.glob("*.jsonl")) if (result := judged(path, say))]
    results = list(of_one_stack(found, stages))
    keep_columns(results, stages)
    if wanted := list(missing(results, runs, stages)):
        os.environ.update(aside.values("scoreboard"))
        try:
            for stage, fault in wanted:
                step(f"stage {stage}: {fault}")
                try:
                    plan = drill.plan(fault, SECONDS, READS, WRITES)
                    path = drill.conduct(ready(stage), plan, say, RECORDS)
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
    bad = [f"  stage {r.stage}, {r.faults}: {r.record}" for r in results if not (r.kept or r.verdict.void)]
    still = set(missing(results, runs, stages))
    void = [
        f"  stage {r.stage}, {r.faults}: {r.verdict.void} ({r.record})"
        for r in results
        if r.verdict.void and (r.stage, r.faults) in still
    ]
    if bad or refused or void:
        broken_ones = ["promises broken:", *bad] if bad else []
        missing_ones = ["refused, and still to be run (say it again):", *refused] if refused else []
        void_ones = ["no verdict, and still to be run (say it again):", *void] if void else []
        raise UserError("\n".join([*broken_ones, *missing_ones, *void_ones]))


def keep_columns(results: Sequence[Result], stages: Collection[int]) -> None:
    """Raise UserError if the scoreboard has a column of which there are no records here, nor will there be."""
    document = ROOT / "docs/scoreboard.md"
    present = scoreboard.columns(document.read_text(encoding="utf-8")) if document.exists() else []
    known = {*stages, *(result.stage for result in results)}
    if lost := [f"stage {stage}" for stage in present if stage not in known]:
        raise UserError(
            f"docs/scoreboard.md would lose {', '.join(lost)}: it is made from the records in "
            f"{RECORDS.relative_to(ROOT)}, which are of this checkout alone, and there are none of that."
            " Nothing was run. Bring them here, or run the drills of every stage: make scoreboard"
        )


def judged(path: Path, say: Callable[[str], None]) -> Result | None:
    """The result that a record holds; None if it was interrupted, is of no drill of ours, or of no commit of ours."""
    found = record.load(path)
    begin = found.begin
    if begin.faults not in PROMISES.get(begin.stage, {}) or not found.stored or not drill.known(begin.commit):
        say(f"does not count: {path.relative_to(ROOT)}")
        return None
    verdict = check(found)
    kept = not list(broken(PROMISES[begin.stage][begin.faults], verdict))
    return Result(
        begin.stage,
        begin.faults,
        str(path.relative_to(ROOT)),
        begin.started.partition("T")[0],
        begin.commit,
        begin.machine,
        verdict,
        kept,
    )


def of_one_stack(results: Sequence[Result], stages: Collection[int]) -> Iterator[Result]:
    """Those that count: on these stages, of the stack as it is now; on others, as when they were last drilled."""
    last = {result.stage: result.commit for result in results}
    for result in results:
        if drill.same_stack(result.commit, "" if result.stage in stages else last[result.stage]):
            yield result


def missing(results: Sequence[Result], runs: int, stages: Collection[int]) -> Iterator[tuple[int, str]]:
    """What is to be run, stage by stage, so that each is brought up once. What had no verdict has not been run."""
    done = [(result.stage, result.faults) for result in results if not result.verdict.void]
    for stage in sorted(stages):
        for turn in range(runs):
            yield from ((stage, fault) for fault in PROMISES[stage] if done.count((stage, fault)) <= turn)


def ready(stage: int) -> Settings:
    """The settings of a stage that is up and whole."""
    values = settings.load()
    wanted = stage_of(str(stage)).without(*values.left_out)
    if values.profile != wanted.profile or missing_in(values, wanted):
        stack.up(values, wanted)
    return settings.load()


def write(results: Sequence[Result]) -> None:
    """Write docs/scoreboard.md, docs/promises.md and the README's excerpt."""
    (ROOT / "docs/scoreboard.md").write_text(scoreboard.table(results), encoding="utf-8")
    (ROOT / "docs/promises.md").write_text(page(), encoding="utf-8")
    readme = ROOT / "README.md"
    text = scoreboard.insert(readme.read_text(encoding="utf-8"), scoreboard.short(results))
    readme.write_text(text, encoding="utf-8")
