"""Promotion when things are not well: of a dead, frozen or cut-off primary; refused; forced; without its guards.

Two databases that an application could write are a failure, in whatever direction packets are lost.
"""

import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from ladder import promote, replication
from ladder.drills import site
from ladder.drills.checker import check, sentence
from ladder.drills.drill import Drill, plan
from ladder.drills.promises import PROMISES, broken
from ladder.errors import UserError
from ladder.faults import Order, carry_out
from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack, file_with
from tests.stages.test_promotion import terms
from tests.traffic import History, Traffic
from tests.writers import watching

pytestmark = [pytest.mark.stage(3), pytest.mark.long]

INSERT = "INSERT INTO messages (account_id, body, created_at) SELECT account_id, '{}', NOW() FROM messages LIMIT 1"


def writable(stack: Stack, *nodes: str) -> list[str]:
    return [node for node in nodes if stack.sql(node, "SELECT @@read_only") == [["0"]]]


def is_replica(stack: Stack, node: str) -> bool:
    try:
        return stack.holder("replica") == node
    except UserError:  # nobody is, for the moment
        return False


def back_as_replica(stack: Stack, node: str) -> None:
    stack.must("heal")
    assert stack.holder("replica") == node
    assert stack.sql(node, "SELECT @@super_read_only") == [["1"]]
    assert f"{node}: primary: " not in stack.log(node).rpartition("ordered to follow")[2], "it opened once more"


@pytest.mark.parametrize(
    ("verb", "values", "way"),
    [
        ("kill", {}, "(dead) finds on its disk that"),
        ("pause", {}, "(frozen) is killed, and finds on its disk that"),
        ("partition", {}, "(cut off) is closed for writing"),
        ("partition", {"WAY": "in"}, "(cut off) is closed for writing"),
        ("partition", {"WAY": "out"}, "(cut off) is closed for writing"),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else None,
)
@pytest.mark.usefixtures("one_writer")
def test_a_primary_that_is_gone_is_replaced_and_never_opens_again(
    stack: Stack, traffic: Traffic, measure: Measure, verb: str, values: dict[str, str], way: str
) -> None:
    old, new = stack.holder("primary"), stack.holder("replica")
    stack.must(verb, NODE="primary", **values)

    begun = time.monotonic()
    said = stack.must("promote")
    traffic.recovers("write", within=20)
    measure("seconds from the command until writes succeed", round(time.monotonic() - begun, 2))
    assert f"{old} {way}" in said
    assert writable(stack, new, *([old] if verb == "partition" else [])) == [new]
    traffic.more("write", 4)
    back_as_replica(stack, old)
    history = traffic.finish()

    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    stack.keeps_promises(traffic.run, history)


@pytest.mark.usefixtures("one_writer")
def test_a_candidate_that_dies_before_it_takes_over_does_not_open_beside_the_old_primary(
    stack: Stack, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its order stands on its disk by then. The old primary leads on, and the other follows it when it is back."""
    old, new = stack.holder("primary"), stack.holder("replica")
    told = promote.tell

    def tell(node: promote.Database, *words: str) -> str | None:
        if words[0] == "order" and words[2].startswith(f"{node.name} ") and node.name == new:
            assert node.container
            node.container.kill(signal="SIGKILL")
            node.container.wait(timeout=10)
            promote.mark(node.container, " ".join(words[2:]))
            return None
        return told(node, *words)

    monkeypatch.setattr(promote, "tell", tell)
    stack.broken = True
    with pytest.raises(UserError, match=f"{new} did not take over .* {old} is the primary again"):
        list(promote.promote(stack.settings))
    assert writable(stack, old) == [old]
    traffic.recovers("write", within=20)
    back_as_replica(stack, new)
    assert writable(stack, old, new) == [old]
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    stack.keeps_promises(traffic.run, history)


def test_a_candidate_that_was_started_without_its_primary_may_have_forgotten_and_is_refused(stack: Stack) -> None:
    """As after a power cut: what it had confirmed and not executed is gone, and the other one is dead."""
    old, new = stack.holder("primary"), stack.holder("replica")
    stack.broken = True
    for node in (old, new):
        stack.node(node).kill(signal="SIGKILL")
    stack.must("start", NODE=new)
    wait_until(lambda: is_replica(stack, new), within=30, what=f"{new} answers")

    def refused() -> bool:
        done = stack.make("promote")
        assert done.returncode != 0
        return f"{new} was started at" in done.stderr and "Nothing was changed" in done.stderr

    wait_until(refused, within=20, what="the promotion is refused for that", every=1)
    stack.must("heal")
    assert stack.holder("primary") == old
    wait_until(lambda: promote.kept(stack.node(new), "behind") is None, within=20, what=f"{new} has everything again")


@pytest.mark.usefixtures("one_writer")
def test_what_a_primary_that_is_cut_off_could_not_send_is_brought_over(stack: Stack) -> None:
    """It committed alone, after its time-out; nobody heard of it, and somebody may rely on it all the same."""
    old, new = stack.holder("primary"), stack.holder("replica")
    text = f"at the last moment {uuid.uuid4().hex}"
    stack.must("partition", NODE="primary")
    stack.sql(old, INSERT.format(text))

    said = stack.must("promote")

    assert f"what {new} did not get from {old} is brought over" in said
    assert stack.sql(new, f"SELECT COUNT(*) FROM messages WHERE body = '{text}'") == [["1"]]
    back_as_replica(stack, old)
    assert "discards" not in stack.log(old).rpartition("ordered to follow")[2]


def test_what_only_a_dead_primary_has_is_lost_by_force_alone_and_kept_in_a_file(stack: Stack) -> None:
    old, new = stack.holder("primary"), stack.holder("replica")
    text = f"nobody else has this {uuid.uuid4().hex}"
    stack.must("kill", NODE="replica")
    stack.sql(old, INSERT.format(text))
    wait_until(lambda: "UTC" in stack.run_in(old, "as-server", "sh", "-c", "cat /var/lib/mysql/alone; true"),
               within=10, what="the primary leaves word that it is alone")  # fmt: skip
    stack.must("kill", NODE="primary")
    stack.must("start", NODE=new)
    wait_until(lambda: is_replica(stack, new), within=30, what=f"{new} answers")

    def refused() -> bool:
        done = stack.make("promote")
        assert done.returncode != 0
        return f"{old} was alone since" in done.stderr and "Nothing was changed" in done.stderr

    wait_until(refused, within=20, what="the promotion is refused for that", every=1)
    assert not writable(stack, new)
    assert "forced: " in stack.must("promote", FORCE="1")
    assert writable(stack, new) == [new]

    back_as_replica(stack, old)
    assert "discards 1 transactions" in stack.log(old)
    assert stack.sql(old, f"SELECT COUNT(*) FROM messages WHERE body = '{text}'") == [["0"]]
    assert text in stack.run_in(old, "as-server", "sh", "-c", "cat /var/lib/mysql/discarded/*.sql")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"NODE": "db9"}, "stage 3 has no 'db9'"),
        ({"NODE": "web1"}, "web1 is no database"),
        ({"NODE": "primary"}, "is the primary already"),
    ],
    ids=lambda value: str(value),
)
def test_who_can_not_be_promoted_is_refused(stack: Stack, values: dict[str, str], words: str) -> None:
    before = stack.holder("primary")
    refused = stack.make("promote", **values)
    assert refused.returncode != 0
    assert words in refused.stderr, refused.stderr
    assert stack.holder("primary") == before


def test_a_candidate_that_is_cut_off_dead_or_broken_is_refused(stack: Stack, traffic: Traffic) -> None:
    """In whatever direction: it would be a primary that nobody reaches. The primary does not even notice."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    for way in ("in", "out"):
        stack.must("partition", NODE="replica", WAY=way)
        refused = stack.make("promote", NODE=replica, FORCE="1")
        assert f"no application server reaches {replica}" in refused.stderr, refused.stderr
        stack.must("heal", NODE=replica)
    stack.node(replica).kill(signal="SIGSTOP")  # its controller, which would start the thread again
    stack.sql(replica, "STOP REPLICA SQL_THREAD")
    assert f"the replication of {replica} is broken" in stack.make("promote").stderr
    stack.node(replica).kill(signal="SIGCONT")
    stack.must("kill", NODE="replica")
    assert "no replica answers" in stack.make("promote").stderr
    stack.must("heal")
    history = traffic.finish()
    assert (stack.holder("primary"), stack.holder("replica")) == (primary, replica)
    assert not history.bad("write"), history.told("write")


@pytest.mark.usefixtures("one_writer")
def test_a_candidate_that_is_behind_is_refused_until_it_has_caught_up(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    """It receives, and confirms, and executes nothing: its tables are locked. No force has writers wait for it."""
    primary, replica = stack.holder("primary"), stack.holder("replica")
    most, before = stack.settings.db_max_lag_seconds, terms(stack)

    def behind() -> int:
        found = replication.ask(stack.node(replica))
        return (found.seconds_behind if found else 0) or 0

    locked = "{ echo 'FLUSH TABLES WITH READ LOCK;'; cat; } | mysql"
    with stack.background(replica, "sh", "-c", locked):
        wait_until(lambda: behind() > most, within=most + 30, what=f"{replica} is more than {most} s behind")
        for values in ({}, {"FORCE": "1"}):
            refused = stack.make("promote", **values)
            assert refused.returncode != 0
            assert f"{replica} is behind {primary}, " in refused.stderr, refused.stderr
            assert f"at most {most} s are let pass" in refused.stderr
        assert writable(stack, primary, replica) == [primary]
        assert terms(stack) == before
    begun = time.monotonic()
    stack.is_whole()
    measure("seconds until it had caught up", round(time.monotonic() - begun, 1))
    assert f"{primary} (well) is closed for writing, and follows {replica}" in stack.must("promote")
    assert writable(stack, primary, replica) == [replica]
    traffic.more("write", 4)
    history = traffic.finish()

    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")
    stack.keeps_promises(traffic.run, history)


def lost(stack: Stack, run: str, history: History) -> int:
    (truth,) = (stored for stored in site.holdings(stack.settings, stack.stage, run) if stored.role == "primary")
    return len(check(replace(history, stored=(truth,))).lost)


@pytest.mark.parametrize("semi_sync", [True, False], ids=["semi-synchronous", "asynchronous"])
def test_the_last_writes_of_a_primary_are_lost_without_semi_synchronous_replication(
    stack: Stack, traffic: Traffic, measure: Measure, semi_sync: bool
) -> None:
    """The replica hears nothing more, and a moment later the primary is dead, with what it acknowledged meanwhile."""
    old, new = stack.holder("primary"), stack.holder("replica")
    # However busy this machine is, it is dead before it goes on alone: its controller, which would let it, is frozen.
    stack.node(old).kill(signal="SIGSTOP")
    carry_out(stack.settings, Order("partition", "replica"))
    if not semi_sync:
        stack.sql(old, "SET GLOBAL rpl_semi_sync_source_enabled = OFF")
        traffic.more("write", 4)
    else:
        waiting = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'"
        wait_until(lambda: int(stack.sql(old, waiting)[0][1]) > 0, within=10, what="a write waits for the replica")
    stack.node(old).kill(signal="SIGKILL")
    stack.broken = True
    stack.must("heal", NODE=new)
    stack.must("promote", **({} if semi_sync else {"FORCE": "1"}))
    traffic.recovers("write", within=20)
    history = traffic.finish()
    found = lost(stack, traffic.run, history)
    measure("acknowledged writes lost", found)
    assert (found == 0) is semi_sync


def test_without_a_fence_two_are_open_and_the_drill_is_red(
    stack: Stack, tmp_path: Path, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not last: the lower term closes by itself, as soon as its controller, frozen for 5 s, sees the other."""

    def leave(node: promote.Database, order: str) -> tuple[str, str]:
        assert node.container
        node.container.kill(signal="SIGSTOP")
        threading.Timer(5, node.container.kill, kwargs={"signal": "SIGCONT"}).start()
        return "", f"{node.name} is left as it is"

    monkeypatch.setattr(promote, "fence", leave)
    old, new = stack.holder("primary"), stack.holder("replica")
    for turn in range(3):
        drill = Drill(stack.settings, plan("promote", reads=50, writes=10), tmp_path / f"{turn}.jsonl", print)
        with watching(stack.node("app1"), stack.stage.databases) as seen:
            verdict = check(drill.run())
        if not verdict.void:
            break
        old, new = new, old
    measure("without the guard", sentence(verdict))
    assert not verdict.void
    assert any(wrong.startswith("failed writes") for wrong in broken(PROMISES[3]["promote"], verdict))
    assert seen["both"], "the watcher of the other tests would not have seen it"
    assert writable(stack, old, new) == [new]
    assert "another was promoted since: closes" in stack.log(old)


def test_a_pool_that_keeps_to_the_first_primary_makes_the_drill_red(
    stack: Stack, tmp_path: Path, measure: Measure
) -> None:
    """A version that asks no more who the primary is, and takes "read only" for the last word."""
    file = ROOT / "app/wall/database.py"
    keeps = "        return snapshot.writer\n", "        return self.__dict__.setdefault('first', snapshot.writer)\n"
    believes = "READ_ONLY = {1290, 1836}", "READ_ONLY: set[int] = set()"
    with file_with(file, *keeps), file_with(file, *believes):
        stack.must("deploy")
    try:
        verdict = check(Drill(stack.settings, plan("promote", reads=50, writes=10), tmp_path / "record", print).run())
    finally:
        stack.must("deploy")
    measure("without the guard", sentence(verdict))
    assert not verdict.void
    assert any(wrong.startswith("failed writes") for wrong in broken(PROMISES[3]["promote"], verdict))
