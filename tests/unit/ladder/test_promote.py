"""Who may be promoted, who is fenced how, what is said when it can't be: the workbench's part, without containers."""

import io
import subprocess
import tarfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import pytest
from docker.models.containers import Container

from ladder import promote, settings
from ladder.errors import UserError
from ladder.promote import Database
from ladder.replication import Database as Answer
from ladder.stages import STAGES

VALUES = settings.check(settings.read(settings.DEFAULTS), "stage3")
STAGE = STAGES[3]
PRIMARY = Answer(writable=True, gtids="a:1-9")
REPLICA = Answer(writable=False, gtids="a:1-9", source="db1", receiving=True, applying=True, seconds_behind=0)


class Box:
    """A container as the engine shows it."""

    def __init__(self, status: str = "running", **files: str) -> None:
        self.status, self.files = status, files
        self.now = status
        self.done: list[str] = []

    def reload(self) -> None:
        """Until then, the status is what it was."""
        self.status = self.now

    def kill(self, signal: str) -> None:
        self.done.append(signal)
        self.now = "exited"

    def wait(self, timeout: float) -> None:
        """It is dead at once."""

    def get_archive(self, path: str) -> tuple[list[bytes], dict[str, Any]]:
        name = path.removeprefix("/var/lib/mysql/")
        if name not in self.files:
            raise docker.errors.NotFound("no such file")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(self.files[name])
            archive.addfile(entry, io.BytesIO(self.files[name].encode()))
        return [packed.getvalue()], {}

    def put_archive(self, path: str, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            (entry,) = archive.getmembers()
            assert (entry.uid, entry.gid) == (promote.OWNER, promote.OWNER)
            file = archive.extractfile(entry)
            assert file
            self.done.append(f"{path}/{entry.name}: {file.read().decode()}")


class Stubborn(Box):
    """One that the engine does not kill."""

    def kill(self, signal: str) -> None:
        raise docker.errors.APIError("the engine is busy")


def node(name: str, answers: Answer | None, box: Box | None, *, reached: bool = True) -> Database:
    return Database(name, cast("Container | None", box), answers, reached)


DB1, DB2 = node("db1", PRIMARY, Box()), node("db2", REPLICA, Box())


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (DB1, "well"),
        (replace(DB1, reached=False), "cut off"),
        (node("db1", None, Box("paused")), "frozen"),
        (node("db1", None, Box()), "silent"),
        (node("db1", None, Box("exited")), "dead"),
        (node("db1", None, None), "gone"),
    ],
)
def test_states(found: Database, state: str) -> None:
    assert found.state == state


@pytest.mark.parametrize(
    ("chosen", "other", "words"),
    [
        (node("db2", None, Box("exited")), DB1, "db2 does not answer (it is dead)"),
        (DB1, DB2, "db1 is the primary already"),
        (replace(DB2, reached=False), DB1, "it is cut off; mend that first: make heal NODE=db2"),
        (replace(DB2, answers=replace(REPLICA, source="")), DB1, "db2 is no replica"),
        (replace(DB2, answers=replace(REPLICA, cloning=True)), DB1, "db2 is being filled anew"),
        (replace(DB2, answers=replace(REPLICA, applying=False, trouble="1062")), DB1, "db2 is broken: 1062"),
        (replace(DB2, answers=replace(REPLICA, receiving=False)), DB1, "does not receive from db1, which is well"),
        (replace(DB2, answers=replace(REPLICA, seconds_behind=6)), DB1, "db2 is behind db1, 6 s; at most 5 s"),
        (replace(DB2, answers=replace(REPLICA, seconds_behind=None)), DB1, "nobody knows how far"),
    ],
)
def test_a_candidate_that_is_not_fit_is_refused(chosen: Database, other: Database, words: str) -> None:
    with pytest.raises(UserError) as refused:
        promote.check(VALUES, chosen, [other])
    assert words in str(refused.value)


def test_a_replica_of_a_dead_or_cut_off_primary_may_have_lost_it(monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = replace(DB2, answers=replace(REPLICA, receiving=False, seconds_behind=None))
    for other in (node("db1", None, Box("exited")), replace(DB1, reached=False)):
        promote.check(VALUES, orphan, [other])


def test_the_replica_is_the_candidate_unless_another_is_named() -> None:
    tier = {"db1": DB1, "db2": DB2}
    assert promote.choose(VALUES, STAGE, tier, "") == "db2"
    with pytest.raises(UserError, match="no replica answers"):
        promote.choose(VALUES, STAGE, {"db1": DB1, "db2": node("db2", None, Box("exited"))}, "")


def test_an_interrupted_promotion_leaves_two_of_which_the_order_tells_whom_it_meant() -> None:
    """db1 was closed and follows db2 already, which has not taken over yet."""
    tier = {"db1": node("db1", replace(REPLICA, source="db2"), Box()), "db2": DB2}
    with pytest.raises(UserError, match="which one"):
        promote.choose(VALUES, STAGE, tier, "")
    tier["db1"] = replace(tier["db1"], term=6, leader="db2")
    assert promote.choose(VALUES, STAGE, tier, "") == "db2"
    tier["db2"] = replace(tier["db2"], term=6, leader="db1")
    with pytest.raises(UserError, match="which one"):
        promote.choose(VALUES, STAGE, tier, "")


def test_a_disk_tells_the_last_promotion_that_was_ordered() -> None:
    def last(**files: str) -> tuple[int, str]:
        box = Box("exited", **{name.replace("_", "."): text for name, text in files.items()})
        return promote.last_order(cast("Container", box))

    assert last() == (0, "")
    assert last(order_last="db2 6 a:1-9\n") == (6, "db2")
    assert last(order="db1 12\n", order_last="db2 6\n") == (12, "db1")
    assert last(order="db1 7\n", order_last="half") == (7, "db1")


def test_no_promotion_has_a_number_again(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    """The one that led by number 6 is dead, and nobody who answers has heard of it in the data."""
    dead = replace(node("db1", None, Box("exited")), term=6, leader="db1")
    assert "promotion 7" in promoted(monkeypatch, dead, replace(DB2, answers=replace(REPLICA, term=4)))[0]


def test_a_dead_primary_that_was_alone_is_a_risk() -> None:
    assert promote.at_risk(VALUES, DB1) == ""
    assert promote.at_risk(VALUES, node("db1", None, Box("exited"))) == ""
    said = promote.at_risk(VALUES, node("db1", None, Box("paused", alone="2026-11-22 01:02:03 UTC\n")))
    assert said.startswith("db1 was alone since 2026-11-22 01:02:03 UTC: what it acknowledged then, no replica has.")


@pytest.mark.parametrize(
    ("status", "obeys", "done", "words"),
    [
        ("running", True, [], "db1 (well) is closed for writing, and follows db2"),
        ("running", False, ["SIGKILL", "/var/lib/mysql/order: db2 1\n"], "db1 (well) is killed, and finds on its disk"),
        ("paused", False, ["SIGKILL", "/var/lib/mysql/order: db2 1\n"], "db1 (frozen) is killed, and finds"),
        ("exited", False, ["/var/lib/mysql/order: db2 1\n"], "db1 (dead) finds on its disk that db2 leads"),
    ],
)
def test_each_state_has_its_fence(
    monkeypatch: pytest.MonkeyPatch, status: str, obeys: bool, done: list[str], words: str
) -> None:
    monkeypatch.setattr(promote, "tell", lambda *_: "a:1-9" if obeys else None)
    box = Box(status)
    had, said = promote.fence(node("db1", PRIMARY if status == "running" else None, box), "db2 1")
    assert (had, box.done) == ("a:1-9" if obeys else "", done)
    assert words in said


def test_nobody_is_promoted_beside_one_that_can_not_be_fenced() -> None:
    box = Stubborn("paused")

    with pytest.raises(UserError, match=r"db1 \(frozen\) can't be fenced: .*busy"):
        promote.fence(node("db1", None, box), "db2 1")


def test_one_that_was_killed_and_whose_disk_takes_no_order_is_said_to_be_dead(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    box = Box("paused")

    def full(path: str, packed: bytes) -> None:
        raise docker.errors.APIError("no space left on device")

    monkeypatch.setattr(box, "put_archive", full)
    with pytest.raises(
        UserError, match=r"db1 \(frozen\) is killed, and can't be fenced: no space.*No node is the primary"
    ):
        promoted(monkeypatch, node("db1", None, box), DB2)
    assert (box.done, told) == (["SIGKILL"], ["db2: withdraw"])


def test_an_order_that_could_not_be_enforced_does_not_close_the_primary_later(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def tell(found: Database, *words: str) -> str | None:
        told.append(f"{found.name}: {' '.join(words)}")
        return None if len(told) == 1 else "a:1-9"

    monkeypatch.setattr(promote, "tell", tell)
    first = node("db1", PRIMARY, Stubborn())
    with pytest.raises(UserError, match=r"can't be fenced: the engine is busy.* db1 is the primary again"):
        promoted(monkeypatch, first, DB2)
    assert told == ["db1: order 8 db2 1", "db2: order 8 db1 2", "db1: order 30 db1 2 a:1-9"]


def test_one_that_is_cut_off_and_can_not_be_fenced_leads_on_without_an_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def tell(found: Database, *words: str) -> str | None:
        told.append(f"{found.name}: {' '.join(words)}")
        return None

    monkeypatch.setattr(promote, "tell", tell)
    first = node("db1", PRIMARY, Stubborn(), reached=False)
    with pytest.raises(UserError, match=r"the engine is busy.* Nobody was promoted; who leads now"):
        promoted(monkeypatch, first, DB2)
    assert told == ["db1: order 8 db2 1", "db2: withdraw", "db1: withdraw"]


def test_a_silent_primary_that_was_alone_by_the_time_it_is_killed_is_a_risk(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    box = Box()
    monkeypatch.setattr(box, "wait", lambda timeout: box.files.update(alone="now"))
    with pytest.raises(UserError, match=r"(?s)db1 was alone since now.*did not obey, and is down"):
        promoted(monkeypatch, node("db1", None, box), DB2)
    assert told == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the nodes were told, in order; they do it."""
    said: list[str] = []

    def tell(found: Database, *words: str) -> str:
        said.append(f"{found.name}: {' '.join(words)}")
        return "a:1-12"

    monkeypatch.setattr(promote, "tell", tell)
    return said


def promoted(monkeypatch: pytest.MonkeyPatch, *tier: Database, force: bool = False) -> list[str]:
    monkeypatch.setattr(promote, "look", lambda *_: {found.name: found for found in tier})
    return list(promote.promote(VALUES, force=force))


def test_the_old_primary_is_closed_before_the_new_one_opens(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    said = promoted(monkeypatch, DB1, DB2)
    assert told == ["db1: order 8 db2 1", "db2: order 30 db2 1 a:1-12"]
    assert [line[9:].split(";")[0] for line in said[:2]] == [
        "db2 is fit to lead",
        "db1 (well) is closed for writing, and follows db2",
    ]


def test_what_a_cut_off_primary_could_not_send_is_brought_over(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    brought: list[str] = []
    monkeypatch.setattr(promote, "waits_for", lambda chosen, had: "a:10-12")
    monkeypatch.setattr(promote, "bring_over", lambda node, chosen, missing: brought.append(missing))
    promoted(monkeypatch, replace(DB1, reached=False), DB2)
    assert brought == ["a:10-12"]
    assert told[-1] == "db2: order 30 db2 1 a:1-12"


def test_a_risk_is_refused_and_changes_nothing_unless_forced(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    box = Box("exited", alone="long ago")
    with pytest.raises(UserError, match=r"Nothing was changed\. To go on all the same: make promote FORCE=1"):
        promoted(monkeypatch, node("db1", None, box), DB2)
    assert (told, box.done) == ([], [])
    said = promoted(monkeypatch, node("db1", None, box), DB2, force=True)
    assert "forced: db1 was alone" in said[0]
    assert box.done == ["/var/lib/mysql/order: db2 1\n"]


def test_without_a_fence_nobody_is_promoted_unless_forced(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    def fails(found: Database, order: str) -> tuple[str, str]:
        raise UserError(f"{found.name} can't be fenced")

    monkeypatch.setattr(promote, "fence", fails)
    with pytest.raises(UserError, match="can't be fenced"):
        promoted(monkeypatch, DB1, DB2)
    assert told == []
    assert any("they are lost when it hears" in line for line in promoted(monkeypatch, DB1, DB2, force=True))
    assert told == ["db2: order 30 db2 1"]


def test_a_candidate_that_does_not_take_over_leaves_the_old_primary_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def tell(found: Database, *words: str) -> str | None:
        told.append(f"{found.name}: {' '.join(words)}")
        return None if found.name == "db2" else "a:1-9"

    monkeypatch.setattr(promote, "tell", tell)
    second = node("db2", REPLICA, Box())
    with pytest.raises(UserError, match=r"db2 did not take over in 30 s; .* db1 is the primary again"):
        promoted(monkeypatch, DB1, second)
    assert told[2:] == ["db2: order 8 db1 2", "db1: order 30 db1 2"]
    assert cast("Box", second.container).done == ["SIGKILL", "/var/lib/mysql/order: db1 2\n"]


def test_the_old_primary_is_not_opened_beside_a_candidate_that_can_not_be_fenced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def tell(found: Database, *words: str) -> str | None:
        told.append(found.name)
        return None if found.name == "db2" else "a:1-9"

    monkeypatch.setattr(promote, "tell", tell)
    second = node("db2", REPLICA, Stubborn())
    with pytest.raises(UserError, match=r"db2 \(well\) can't be fenced: .*No node is the primary"):
        promoted(monkeypatch, DB1, second)
    assert told == ["db1", "db2", "db2"]


def test_what_a_candidate_had_acknowledged_alone_before_it_died_is_not_gone_back_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(promote, "tell", lambda found, *_: None if found.name == "db2" else "a:1-9")
    with pytest.raises(UserError, match=r"db2 was alone since now.*No node is the primary"):
        promoted(monkeypatch, DB1, node("db2", REPLICA, Box(alone="now\n")))


@pytest.mark.parametrize("at", ["db1: order 8 db2 1", "db2: order 30 db2 1 a:1-12"])
def test_an_interrupted_promotion_goes_back(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    told: list[str] = []

    def tell(found: Database, *words: str) -> str:
        told.append(f"{found.name}: {' '.join(words)}")
        if told[-1] == at:
            raise KeyboardInterrupt
        return "a:1-12"

    monkeypatch.setattr(promote, "tell", tell)
    with pytest.raises(UserError, match=r"interrupted\. db1 is the primary again"):
        promoted(monkeypatch, DB1, DB2)
    assert told[-2:] == ["db2: order 8 db1 2", "db1: order 30 db1 2 a:1-12"]


def test_a_promotion_that_nobody_listens_to_any_more_goes_back(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """Ctrl-C while a step is printed: the generator is closed."""
    monkeypatch.setattr(promote, "look", lambda *_: {"db1": DB1, "db2": DB2})
    steps = promote.promote(VALUES)
    assert ["fit" in next(steps), "closed" in next(steps)] == [True, True]
    assert isinstance(steps, Generator)
    steps.close()
    assert told[-1] == "db1: order 30 db1 2 a:1-12"


def test_a_candidate_that_was_started_and_has_not_caught_up_is_a_risk(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """It confirmed, and forgot what it had not executed."""
    late = node("db2", replace(REPLICA, receiving=False), Box(behind="2026-11-28 01:02:03 UTC\n"))
    dead = node("db1", None, Box("exited"))
    with pytest.raises(UserError, match=r"db2 was started at 2026-11-28 01:02:03 UTC, and has not had everything"):
        promoted(monkeypatch, dead, late)
    assert told == []
    assert "forced: db2 was started" in promoted(monkeypatch, dead, late, force=True)[0]
    # One that is well says what it has, and that is waited for.
    assert "is fit to lead" in promoted(monkeypatch, DB1, replace(late, answers=REPLICA))[0]


def test_a_primary_that_does_not_obey_is_no_excuse_for_a_candidate_that_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promote, "tell", lambda *_: None)
    with pytest.raises(UserError, match=r"db2 was started at now.*\ndb1 did not obey, and is down"):
        promoted(monkeypatch, node("db1", PRIMARY, Box()), node("db2", REPLICA, Box(behind="now")))


def test_what_a_primary_that_does_not_obey_had_acknowledged_alone_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as it runs it is asked; once it is killed, its disk."""
    monkeypatch.setattr(promote, "tell", lambda *_: None)
    with pytest.raises(UserError, match=r"db1 was alone since now.*\ndb1 did not obey, and is down"):
        promoted(monkeypatch, node("db1", PRIMARY, Box(alone="now")), node("db2", REPLICA, Box()))


def test_a_candidate_that_does_not_say_what_it_has_does_not_lead(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setattr(promote, "ARRIVES_WITHIN", 0)
    monkeypatch.setattr(promote, "exec_in", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"db2 does not say what it has got from db1\. Nobody was promoted"):
        promoted(monkeypatch, replace(DB1, reached=False), DB2)
    assert told == ["db1: order 8 db2 1", "db2: withdraw", "db1: withdraw"]


def test_it_is_of_stage_3(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"stage 2 can't promote a replica, which is one of its faults; .*STAGE=3"):
        list(promote.promote(replace(VALUES, profile="stage2")))


def test_an_answer_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    limits: list[float] = []

    def exec_in(container: Any, command: list[str], *, timeout: float) -> str:
        asked.append(command)
        limits.append(timeout)
        return "a:1-9,\nb:1\n"

    monkeypatch.setattr(promote, "exec_in", exec_in)
    assert promote.tell(DB2, "order", "8", "db2 1") == "a:1-9,b:1"
    assert asked[0][-4:] == ["order", "8", "db2", "1"]
    assert limits == [8 + promote.ENGINE_WITHIN], "a node that freezes while it is told is not waited for"
    monkeypatch.setattr(promote, "exec_in", lambda *_, **__: None)
    assert promote.tell(DB2, "withdraw") is None


def test_who_reaches_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"app1": Box(), "app2": Box("paused"), "db1": Box(), "db2": Box("exited")}
    monkeypatch.setattr(promote, "containers", lambda _: present)
    monkeypatch.setattr(promote, "exec_in", lambda *_, **__: "db1\n")
    monkeypatch.setattr("ladder.replication.ask", lambda box: PRIMARY if box.status == "running" else None)
    found = promote.look(VALUES, STAGE)
    assert {name: each.state for name, each in found.items()} == {"db1": "well", "db2": "dead"}
    present["app1"].status = "exited"
    assert promote.look(VALUES, STAGE)["db1"].reached, "nobody is cut off from an application that is not there"


def test_a_database_is_asked_twice_before_it_counts_as_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A busy machine may let the first try fail. `timeout` stands for all that it does here."""
    (tmp_path / "timeout").write_text(
        f'#!/bin/sh\n[ "$1" = 1 ] && [ "$node" != db2 ] && {{ [ -e {tmp_path}/once ] || ! touch {tmp_path}/once; }}\n'
    )
    (tmp_path / "timeout").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def exec_in(container: Any, command: list[str], *, timeout: float) -> str:
        ask = command[2].replace("do {", "do export node; {")
        return subprocess.run([*command[:2], ask, *command[3:]], capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(promote, "exec_in", exec_in)
    assert promote.reached_by(cast("Container", Box()), ("db1", "db2")) == {"db1"}


def test_a_disk_may_be_gone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(name: str) -> None:
        assert name == f"{VALUES.project}_db1"
        raise docker.errors.NotFound("no such volume")

    gone = node("db1", None, None)
    engine = SimpleNamespace(volumes=SimpleNamespace(get=get))
    monkeypatch.setattr(promote, "client", lambda: engine)
    assert "and its disk are gone" in promote.at_risk(VALUES, gone)
    engine.volumes.get = lambda name: name
    assert "its disk is still there: no order can be left on it" in promote.at_risk(VALUES, gone)
    had, said = promote.fence(gone, "db2 1")
    assert (had, "its disk, if it has one, has no order" in said) == ("", True)
