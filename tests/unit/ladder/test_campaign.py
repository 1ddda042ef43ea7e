"""The scoreboard's run: which records count, what is still missing, and that an interrupted one goes on."""

import subprocess
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from ladder import aside, images, settings, stack
from ladder.drills import campaign, drill, promises
from ladder.drills.record import Record
from ladder.errors import UserError
from ladder.settings import Settings
from tests.unit.ladder.forged import clean, lines_of, spoil

DRILLS = {0: {"kill web1": promises.NOTHING_LOST}, 1: {"kill web1": promises.UNNOTICED, "deploy": promises.UNNOTICED}}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with one commit, as the scoreboard's; its stack is app/ alone."""
    for name in ("app/code", "docs/promises.md", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<!-- scoreboard -->\n<!-- /scoreboard -->\n")
    (tmp_path / ".gitignore").write_text(".ladder/\n")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=first"]):
        git(tmp_path, *words)
    for module in (campaign, drill):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(campaign, "RECORDS", tmp_path / ".ladder/scoreboard")
    monkeypatch.setattr(drill, "STACK", ("app",))
    monkeypatch.setattr(campaign, "PROMISES", DRILLS)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    by = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *by, *words], cwd=folder, check=True)


def write(record: Record, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines_of(record)))
    return path


def of(stage: int, faults: str, commit: str) -> Record:
    record = clean()
    begin = replace(record.begin, stage=stage, faults=faults, commit=commit, machine="a small machine")
    return replace(record, begin=begin)


def quiet(said: str) -> None:
    """Nobody listens."""


def counting(stages: Collection[int]) -> list[str]:
    found = [result for path in sorted(campaign.RECORDS.glob("*.jsonl")) if (result := campaign.judged(path, quiet))]
    return [f"{result.stage} {result.faults} {result.kept}" for result in campaign.of_one_stack(found, stages)]


def test_a_record_counts_as_long_as_the_stack_is_what_it_was(checkout: Path) -> None:
    write(of(1, "kill web1", drill.commit()), campaign.RECORDS / "a.jsonl")
    assert counting([1]) == ["1 kill web1 True"]

    (checkout / "README.md").write_text("Other words are no other stack.")
    assert counting([1]) == ["1 kill web1 True"]

    (checkout / "app/code").write_text("changed")
    assert counting([1]) == []
    assert counting([0]) == ["1 kill web1 True"], "a stage that is not to be drilled keeps what was shown of it last"

    git(checkout, "commit", "--all", "--quiet", "--message=second")
    write(of(1, "deploy", drill.commit()), campaign.RECORDS / "b.jsonl")
    assert counting([1]) == counting([0]) == ["1 deploy True"], "and all of it is of one stack"


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda record: replace(record, stored=()),
        lambda record: replace(record, begin=replace(record.begin, faults="kill everything")),
        lambda record: replace(record, begin=replace(record.begin, stage=9)),
        lambda record: replace(record, begin=replace(record.begin, commit=record.begin.commit + "+")),
        lambda record: replace(record, begin=replace(record.begin, commit="")),
        lambda record: replace(record, begin=replace(record.begin, commit="0000000")),
    ],
    ids=["interrupted", "no drill of ours", "no stage", "changed beside its commit", "no commit", "unknown commit"],
)
def test_a_record_that_does_not_count_is_told(checkout: Path, spoilt: Callable[[Record], Record]) -> None:
    said: list[str] = []
    path = write(spoilt(of(1, "kill web1", drill.commit())), campaign.RECORDS / "a.jsonl")
    assert campaign.judged(path, said.append) is None
    assert said == ["does not count: .ladder/scoreboard/a.jsonl"]


class Campaign:
    """The scoreboard's drills, of which each leaves a record at once; nothing is brought up."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.downs: list[bool] = []
        self.records: Callable[[int, str, str], Record] = of
        self.stops_at = 0
        self.refuses = ""

    def conduct(self, values: Settings, plan: drill.Plan, say: Callable[[str], None], folder: Path) -> Path:
        """As the real one; interrupted once if a test says so."""
        if self.stops_at and len(self.done) == self.stops_at:
            self.stops_at = 0
            raise KeyboardInterrupt
        if str(plan) == self.refuses:
            raise UserError("nothing was broken: this machine is too busy")
        stage = int(values.profile.removeprefix("stage"))
        self.done.append(f"{stage} {plan}")
        return write(self.records(stage, str(plan), drill.commit()), folder / f"{len(self.done)}.jsonl")


@pytest.fixture
def pretended(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A campaign in a small checkout, without Docker."""
    found = Campaign()
    values = settings.load()
    monkeypatch.setattr(campaign, "ready", lambda stage: replace(values, profile=f"stage{stage}"))
    monkeypatch.setattr(aside, "values", lambda purpose: {})
    monkeypatch.setattr(drill, "conduct", found.conduct)
    monkeypatch.setattr(stack, "down", lambda values, wipe: found.downs.append(wipe))
    monkeypatch.setattr(images, "forget", lambda values: None)
    return found


def test_interrupted_it_goes_on_where_it_was(checkout: Path, pretended: Campaign) -> None:
    pretended.stops_at = 3
    with pytest.raises(KeyboardInterrupt):
        campaign.run(2, DRILLS, quiet, quiet)
    assert pretended.done == ["0 kill web1", "0 kill web1", "1 kill web1"]
    assert pretended.downs == [True], "its stack stays behind"
    assert "Runs: 3," in (checkout / "docs/scoreboard.md").read_text()

    campaign.run(2, DRILLS, quiet, quiet)
    assert pretended.done[3:] == ["1 deploy", "1 kill web1", "1 deploy"]
    campaign.run(2, DRILLS, quiet, quiet)
    assert len(pretended.done) == 6, "nothing was missing"
    written = (checkout / "docs/scoreboard.md").read_text()
    assert "Runs: 6, up to 2 of each drill" in written
    assert "a small machine" in written
    assert "| `kill web1` |" in (checkout / "README.md").read_text()


def test_a_refused_drill_does_not_keep_the_others_from_being_run(checkout: Path, pretended: Campaign) -> None:
    pretended.refuses = "kill web1"
    with pytest.raises(UserError) as refused:
        campaign.run(1, DRILLS, quiet, quiet)
    assert pretended.done == ["1 deploy"]
    assert str(refused.value).splitlines() == [
        "refused, and still to be run (say it again):",
        "  stage 0, kill web1: nothing was broken: this machine is too busy",
        "  stage 1, kill web1: nothing was broken: this machine is too busy",
    ]
    pretended.refuses = ""
    campaign.run(1, DRILLS, quiet, quiet)
    assert pretended.done == ["1 deploy", "0 kill web1", "1 kill web1"]


def test_one_stage_alone_is_drilled_and_the_others_are_shown_as_they_were(checkout: Path, pretended: Campaign) -> None:
    campaign.run(1, [0], quiet, quiet)
    assert pretended.done == ["0 kill web1"]
    (checkout / "app/code").write_text("changed")
    git(checkout, "commit", "--all", "--quiet", "--message=second")
    campaign.run(1, [1], quiet, quiet)
    assert pretended.done == ["0 kill web1", "1 kill web1", "1 deploy"]
    rows = [line.split(" | ") for line in (checkout / "docs/scoreboard.md").read_text().splitlines() if "small" in line]
    assert [(row[0], row[1]) for row in rows] == [("| 0", "1"), ("| 1", "2")]
    assert rows[0][4] != rows[1][4], "each says of which commit it is"


def test_a_broken_promise_ends_it_with_its_record_when_all_is_written(checkout: Path, pretended: Campaign) -> None:
    """The reads of a second fail, where on stage 1 none may."""

    def failing(stage: int, faults: str, commit: str) -> Record:
        return spoil(of(stage, faults, commit), "read", range(60, 70), outcome="failed")

    pretended.records = failing
    with pytest.raises(UserError) as refused:
        campaign.run(1, DRILLS, quiet, quiet)

    assert str(refused.value).splitlines() == [
        "promises broken:",
        "  stage 1, kill web1: .ladder/scoreboard/2.jsonl",
        "  stage 1, deploy: .ladder/scoreboard/3.jsonl",
    ]
    assert (checkout / "docs/scoreboard.md").read_text().count("promise broken") == 2 + 1  # and its explanation


def test_a_drill_without_a_verdict_has_not_been_run(checkout: Path, pretended: Campaign) -> None:
    """The visitor of the first did not end as it should."""
    pretended.records = lambda stage, faults, commit: replace(of(stage, faults, commit), cpu=None)
    with pytest.raises(UserError) as ended:
        campaign.run(1, [0], quiet, quiet)
    assert str(ended.value).splitlines() == [
        "no verdict, and still to be run (say it again):",
        "  stage 0, kill web1: the visitor did not end as it should (.ladder/scoreboard/1.jsonl)",
    ]
    assert "| `kill web1` | void |" in (checkout / "docs/scoreboard.md").read_text()

    pretended.records = of
    campaign.run(1, [0], quiet, quiet)
    assert pretended.done == ["0 kill web1"] * 2
    assert "1 of 2 void" in (checkout / "docs/scoreboard.md").read_text(), "that there was one is told"
    campaign.run(1, [0], quiet, quiet)
    assert len(pretended.done) == 2, "nothing was missing"


def test_a_column_whose_records_are_elsewhere_is_not_lost(checkout: Path, pretended: Campaign) -> None:
    """Records are not in git: a fresh clone has the scoreboard, and nothing that it was made from."""
    campaign.run(1, DRILLS, quiet, quiet)
    written = (checkout / "docs/scoreboard.md").read_text()
    for path in campaign.RECORDS.glob("*.jsonl"):
        path.unlink()
    pretended.done.clear()
    with pytest.raises(UserError, match=r"would lose stage 0: .*Nothing was run\. .*make scoreboard$"):
        campaign.run(1, [1], quiet, quiet)
    assert pretended.done == []
    assert (checkout / "docs/scoreboard.md").read_text() == written

    campaign.run(1, DRILLS, quiet, quiet)
    assert pretended.done == ["0 kill web1", "1 kill web1", "1 deploy"]
