"""The scoreboard says at a glance what the results hold."""

import dataclasses

import pytest

from ladder.drills.checker import Stream, Verdict
from ladder.drills.promises import PROMISES
from ladder.drills.scoreboard import KINDS, Result, cell, columns, figure, insert, kind, short, table
from ladder.errors import UserError

FINE = Stream("read", 2000, 0, 0, gap=0.03, until_healed=False, felt=0.0, p50=0.01, p99=0.02, slowest=0.1)
WRITES = dataclasses.replace(FINE, kind="write", sent=400)
DOWN = dataclasses.replace(FINE, failed=1200, unknown=20, gap=12.2, until_healed=True, felt=12.0, slowest=10.0)
WELL = Verdict(FINE, WRITES, (), (), 0, 0, (), 0, redundant=2.14, void="")


def result(stage: int = 1, faults: str = "kill web1", kept: bool = True, **changes: object) -> Result:
    verdict = dataclasses.replace(WELL, **changes)
    return Result(stage, faults, "20261121-060000.jsonl", "2026-11-21", "abc1234", "2 cores", verdict, kept)


def scoreboard(*results: Result) -> str:
    return table(results)


def test_a_clean_run_is_told_in_a_word() -> None:
    assert cell([result()], 1) == "🟢 unnoticed<br>back 2.1 s"


def test_down_until_healed_is_said_in_words() -> None:
    writes = dataclasses.replace(DOWN, kind="write", failed=240, unknown=4)
    assert cell([result(reads=DOWN, writes=writes)], 1) == "🔴 **down**, 1,464 failed<br>back 2.1 s"
    assert cell([result(writes=writes)], 1) == "🟡 reads: fine<br>writes: **down**, 244 failed<br>back 2.1 s"


def test_waiting_is_told_from_silence_and_from_failure() -> None:
    slow = dataclasses.replace(FINE, slowest=1.03, felt=0.2)
    silent = dataclasses.replace(FINE, slowest=1.6, gap=1.52)
    torn = dataclasses.replace(FINE, failed=3, slowest=1.6)
    assert "🟢 reads: slowest 1.0 s<br>writes: fine" in cell([result(reads=slow)], 1)
    assert "🟡 reads: silent 1.5 s<br>writes: fine" in cell([result(reads=silent)], 1)
    assert "🟡 reads: 3 failed<br>writes: fine" in cell([result(reads=torn)], 1)


def test_several_runs_show_the_median_and_the_worst() -> None:
    failed = [dataclasses.replace(FINE, failed=number, gap=number, slowest=number) for number in (1, 2, 9)]
    found = [result(reads=stream, redundant=stream.gap) for stream in failed]
    assert cell(found, 3) == (
        "🟡 reads: silent 2.0 (worst 9.0) s, 2 (worst 9) failed<br>writes: fine<br>back 2.0 (worst 9.0) s"
    )
    assert cell(found[:2], 3).endswith("<br>runs: 2")
    some = [result(reads=DOWN), result()]
    assert "reads: **down** in 1 of 2 runs, 610 (worst 1,220) failed" in cell(some, 2)


@pytest.mark.parametrize(
    ("values", "said"),
    [([1.0], "1.0 s"), ([0.0, 0.04], "0.0 s"), ([9.0, 9.5], "9.2 s"), ([1.0, 1.0, 4.0], "1.0 (worst 4.0) s")],
)
def test_the_worst_is_told_where_it_is_clearly_worse(values: list[float], said: str) -> None:
    assert figure(values, ".1f", " s") == said


def test_what_is_wrong_in_the_end_is_told() -> None:
    found = cell([result(lost=("a", "b"), twice=("c",), differing=("db2",), redundant=None)], 1)
    assert found == "🔴 **2 lost**<br>**1 twice**<br>**databases differ**<br>unnoticed<br>**not back**"
    assert "**not back** in 1 of 2 runs" in cell([result(), result(redundant=None)], 2)


def test_a_broken_promise_is_marked_and_nothing_promised_is_not() -> None:
    assert cell([result(), result(kept=False)], 2).startswith("⚠ **promise broken**<br>🟢 unnoticed")
    assert "promise" not in cell([result()], 1)


def test_a_void_run_counts_for_nothing() -> None:
    void = result(kept=False, void="too busy", reads=DOWN)
    assert cell([void], 1) == "void"
    assert cell([void, result()], 1) == "🟢 unnoticed<br>back 2.1 s<br>1 of 2 void"
    assert cell([void, result()], 2).endswith("1 of 2 void<br>runs: 1")
    text = scoreboard(void, result(), result(faults="deploy"))
    assert "Runs: 3, of which 1 void, one of each drill." in text
    assert "<br>runs: " not in text, "the others are not behind one that was run again"
    assert "| `kill web1` | void |" in scoreboard(void)


def test_rungs_are_across_and_faults_are_down_by_kind() -> None:
    orders = ("deploy", "kill web1 then kill web2", "kill lb1", "pause web1", "kill web1")
    text = scoreboard(*(result(faults=order) for order in orders), result(stage=0, faults="kill web1"))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| Fault", "| `"))]
    assert rows[0] == ["| Fault", "0 simple", "1 distributed |"]
    assert [row[0] for row in rows[1:]] == [
        "| `kill lb1`",
        "| `kill web1`",
        "| `pause web1`",
        "| `deploy`",
        "| `kill web1 then kill web2`",
    ]
    assert rows[1][1] == "–"
    assert "1 distributed" not in scoreboard(result(stage=0))


def test_the_columns_of_a_scoreboard_are_read() -> None:
    assert columns(scoreboard(result(stage=0), result(stage=3))) == [0, 3]
    assert columns("# Scoreboard\n") == []


def test_every_drill_has_its_place() -> None:
    assert {kind(fault) for faults in PROMISES.values() for fault in faults} <= {*KINDS}


def test_what_was_not_run_is_told_from_what_makes_no_sense() -> None:
    text = scoreboard(result(stage=0, faults="kill web1"), result(stage=1, faults="kill lb1"))
    rows = [line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| `")]
    assert [[cell.startswith("🟢") or cell.rstrip(" |") for cell in row] for row in rows] == [
        [True, "not run"],
        ["–", True],
    ]


def test_it_says_how_when_and_where_it_was_made() -> None:
    text = scoreboard(result(), result())
    assert "Runs: 2, up to 2 of each drill; figures are the median and, if a tenth above, the worst." in text
    assert "| 1 | 2 | 2 | 2026-11-21 | abc1234 | 2 cores |" in text
    later = dataclasses.replace(result(), date="2026-11-22", commit="abc1235")
    assert "| 1 | 2 | 2 | 2026-11-21 to 2026-11-22 | abc1235 | 2 cores |" in scoreboard(result(), later)
    assert "(measuring.md)" in text
    assert "Runs: 1, one of each drill." in scoreboard(result())
    rungs = scoreboard(result(), result(), result(stage=0, faults="kill web1"))
    assert "<br>runs: " not in rungs, "a rung is not behind another that was run again"


def test_the_excerpt_tells_the_story_in_its_own_order() -> None:
    text = short([result(faults=order) for order in ("pause web1", "deploy", "kill lb1", "kill web1")])
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    assert rows == ["| `kill web1`", "| `kill lb1`", "| `deploy`"]


def test_the_excerpt_goes_between_its_markers_and_nothing_else_changes() -> None:
    readme = "# A\n\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\n\n## B\n"
    once = insert(readme, "new")
    assert once == "# A\n\n<!-- scoreboard -->\nnew\n<!-- /scoreboard -->\n\n## B\n"
    assert insert(once, "new") == once


@pytest.mark.parametrize(
    "readme",
    [
        "",
        "<!-- scoreboard -->",
        "<!-- /scoreboard --><!-- scoreboard -->",
        "<!-- scoreboard --><!-- /scoreboard -->" * 2,
    ],
)
def test_a_readme_without_one_place_for_it_is_refused(readme: str) -> None:
    with pytest.raises(UserError, match="needs one <!-- scoreboard -->"):
        insert(readme, "new")
