"""The controller's rounds with a pretended server: what it does, and what it leaves alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import node.controller
import pymysql
import pytest
from node.confirmed import Confirmation
from node.controller import CONTEST_ROUNDS, Controller
from node.decide import Down, Facts, Peer
from node.gtid import GtidSet
from node.orders import Order, Orders
from node.peers import Peers
from node.server import Server, Volume
from node.settings import ACCOUNTS, Settings
from node.statements import WRITERS, Statement, clone

NINE = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-9")
REPLICA = Facts(
    "db2", executed=NINE, source="db1", has_schema=True, receiving=True, connected=True,
    applying=True,
)  # fmt: skip
PRIMARY = Facts("db1", writable=True, locked=False, executed=NINE, has_schema=True)


@dataclass
class FakeServer:
    done: list[str] = field(default_factory=list)
    refuses: str = ""
    full: bool = False
    dumps: int = 0
    rows: list[tuple[str, str]] = field(default_factory=list)
    """What it answers of the confirmations; nothing when they are not waited for."""

    def connect(self, seconds: float) -> FakeServer:
        del seconds
        return self

    def cursor(self) -> AbstractContextManager[SimpleNamespace]:
        return nullcontext(SimpleNamespace(execute=lambda _: None, fetchall=lambda: self.rows))

    def execute(self, todo: Iterable[Statement], seconds: float = 0) -> None:
        del seconds
        for sql, _ in todo:
            if sql == self.refuses:
                self.refuses = ""
                raise pymysql.err.OperationalError(1205, "Lock wait timeout exceeded")
            self.done.append(sql)

    def disconnect(self, which: str, *, after: float = 0) -> None:
        del after
        self.done.append("disconnect " + ("all" if which == WRITERS else "those in a transaction"))

    def dump(self, gtids: str, into: Path) -> bool:
        self.dumps += 1
        into.write_text(gtids)
        return not self.full

    def wait(self, check: Callable[[], bool], seconds: float) -> bool:
        del seconds
        return check()

    def feed(self, dumped: Path) -> bool:
        self.done.append(f"feed {dumped.read_text()}")
        return True

    def restart_on_copy(self, source: str) -> None:
        self.done.append(f"restart on copy, follow {source or 'nobody'}")


@dataclass
class FakePeers:
    me: Peer
    others: list[Peer]

    def ask(self, name: str, host: str = "") -> Peer:
        del name, host
        return self.me

    def ask_all(self, names: tuple[str, ...]) -> list[Peer]:
        del names
        return self.others

    def forget(self, name: str) -> None:
        del name


@dataclass
class Node:
    controller: Controller
    server: FakeServer
    peers: FakePeers
    orders: Orders
    state: Path

    def round(self) -> str:
        """What one round leaves as the state."""
        self.server.done.clear()
        self.controller.round()
        return self.state.read_text().strip()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Node]:
    monkeypatch.setattr(node.controller, "STATE", tmp_path / "run" / "state")

    def build(me: Peer, *others: Peer, semi_sync: bool = False) -> Node:
        settings = Settings(me.name, ("db1", "db2"), dict.fromkeys(ACCOUNTS, "secret"), semi_sync)
        server, peers, orders = FakeServer(), FakePeers(me, list(others)), Orders(tmp_path)
        controller = Controller(
            settings,
            Volume(tmp_path),
            cast("Server", server),
            cast("Peers", peers),
            orders,
            Confirmation(cast("Server", server), orders),
        )
        return Node(controller, server, peers, orders, tmp_path / "run" / "state")

    return build


def test_a_settled_primary_is_left_alone(make: Callable[..., Node]) -> None:
    node = make(PRIMARY, REPLICA)
    assert node.round().startswith("primary:")
    assert node.server.done == []


def test_a_settled_replica_is_left_alone(make: Callable[..., Node]) -> None:
    node = make(REPLICA, PRIMARY)
    assert node.round() == f"replica: of db1, from GTID {NINE}"
    assert node.server.done == []


def test_a_restarted_primary_opens_and_makes_no_transaction(make: Callable[..., Node]) -> None:
    node = make(replace(PRIMARY, writable=False, locked=True), Down("db2"))
    assert node.round().startswith("primary:")
    assert node.server.done[-1] == "SET GLOBAL read_only = OFF"
    assert not any("CREATE" in sql for sql in node.server.done)


def test_a_contested_primary_opens_only_after_some_rounds(make: Callable[..., Node]) -> None:
    node = make(replace(PRIMARY, writable=False), replace(PRIMARY, name="db2", writable=False))
    for _ in range(CONTEST_ROUNDS - 1):
        assert node.round().startswith("waiting:")
        assert node.server.done == []
    assert node.round().startswith("primary:")


def test_a_replica_opened_by_hand_is_closed(make: Callable[..., Node]) -> None:
    for opened in (replace(REPLICA, writable=True), replace(REPLICA, locked=False)):
        node = make(opened, PRIMARY)
        node.round()
        assert node.server.done == ["SET GLOBAL super_read_only = ON"]


def test_a_replica_that_is_not_connected_is_not_ready(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, connected=False, trouble="receiver error 1045"), PRIMARY)
    assert node.round() == "waiting: for db1 to send its binary log (receiver error 1045)"


def test_a_stopped_thread_is_started(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, applying=False), PRIMARY)
    node.round()
    assert node.server.done == ["START REPLICA USER = 'replication' PASSWORD = %s"]


def test_a_replica_without_primary_serves_and_only_applies(make: Callable[..., Node]) -> None:
    node = make(replace(REPLICA, applying=False, receiving=False), Down("db1"))
    assert node.round() == "replica: its primary, db1, is down"
    assert node.server.done == ["START REPLICA SQL_THREAD"]


def test_what_is_discarded_is_logged(make: Callable[..., Node], capsys: pytest.CaptureFixture[str]) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    node = make(replace(REPLICA, executed=NINE | more), PRIMARY)
    node.round()
    assert "restart on copy, follow db1" in node.server.done
    (kept,) = node.orders.discarded.iterdir()
    assert kept.read_text() == str(more)
    assert f"discards 3 transactions, GTID {more}: db1 does not have them; kept in {kept}" in capsys.readouterr().err


def test_what_can_not_be_kept_is_not_discarded(make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    node = make(replace(REPLICA, executed=NINE | more), PRIMARY)
    node.server.full = True
    assert re.match(
        "waiting: with 3 transactions of its own, which can't be kept .* this needs a person: .* make wipe NODE=db2$",
        node.round(),
    )
    assert node.server.done == []
    assert list(node.orders.discarded.iterdir()) == [], "no half of it either"
    node.round()
    assert node.server.dumps == 1, "not again at once"
    node.server.full = False
    monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
    node.round()
    assert "restart on copy, follow db1" in node.server.done


def test_what_is_in_no_binary_log_any_more_is_not_said_to_be_kept(
    make: Callable[..., Node], capsys: pytest.CaptureFixture[str]
) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    old = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-2")
    make(replace(REPLICA, executed=NINE | more, purged=old), PRIMARY).round()
    assert "but for 2 that are in no binary log any more" in capsys.readouterr().err


def test_a_clone_that_fails_keeps_what_is_discarded_once(make: Callable[..., Node]) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    node = make(replace(REPLICA, executed=NINE | more), PRIMARY)
    for _ in range(3):
        node.server.refuses = next(sql for sql, _ in clone("db1", "secret", node.controller.volume.clone)[-1:])
        node.round()
    assert node.server.dumps == 1


def test_one_that_is_filled_anew_may_lack_what_it_had_confirmed_meanwhile(
    make: Callable[..., Node], tmp_path: Path
) -> None:
    more = GtidSet.parse("bbbbbbbb-0000-0000-0000-000000000002:1-3")
    node = make(replace(REPLICA, executed=NINE | more), PRIMARY, semi_sync=True)
    node.round()
    assert (tmp_path / "behind").exists()
    later = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:10")
    node.peers.me, node.peers.others = REPLICA, [replace(PRIMARY, executed=NINE | later)]
    node.round()
    assert (tmp_path / "behind").exists(), "the primary has one more"
    node.peers.me = replace(REPLICA, executed=NINE | later)
    node.round()
    assert not (tmp_path / "behind").exists()


def test_a_silent_mysqld_is_not_ready(make: Callable[..., Node]) -> None:
    assert make(Down("db1")).round().startswith("waiting:")


def test_a_state_is_logged_once(make: Callable[..., Node], capsys: pytest.CaptureFixture[str]) -> None:
    node = make(PRIMARY, REPLICA)
    for _ in range(3):
        node.round()
    assert capsys.readouterr().err.count("primary:") == 1


def give(node: Node, order: Order) -> None:
    """As ../tell does."""
    (node.state.parents[1] / "order").write_text(f"{order}\n")


def answer(node: Node) -> str:
    leader, term, gtids = (node.state.parents[1] / "order.done").read_text().split()
    assert (leader, term) == ("db2", "1")
    return gtids


FOLLOW, LEAD = Order("db2", 1), Order("db2", 1, NINE)
CLOSES = "SET GLOBAL super_read_only = ON"


def test_a_primary_ordered_to_follow_closes_first_and_answers_with_what_it_has(make: Callable[..., Node]) -> None:
    node = make(PRIMARY, replace(REPLICA, connected=False))
    give(node, FOLLOW)
    node.round()
    closed, follows = (
        next(n for n, sql in enumerate(node.server.done) if sql.startswith(words)) for words in (CLOSES, "CHANGE")
    )
    assert closed < node.server.done.index("disconnect those in a transaction") < follows
    assert answer(node) == str(NINE)
    assert not any("read_only = OFF" in sql for sql in node.server.done)


def test_commits_that_wait_for_a_replica_in_vain_do_not_keep_a_primary_open(
    make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is disconnected before the commit is let go: nobody is told that it is safe.

    Should somebody come back and write meanwhile, the word of it is on the disk first.
    """
    node = make(PRIMARY, Down("db2"), semi_sync=True)
    monkeypatch.setattr(node.controller.confirmation, "note", lambda: node.server.done.append("note"))
    give(node, FOLLOW)
    node.server.refuses = CLOSES
    node.round()
    done = node.server.done
    lets_go = done.index("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
    assert done.index("disconnect all") < done.index("note") < lets_go < done.index(CLOSES)
    assert answer(node) == str(NINE)


def test_a_dead_primary_finds_its_order_and_never_opens(make: Callable[..., Node]) -> None:
    """It was written on its volume while it was dead; its peer is away again, which alone would have let it lead."""
    node = make(replace(PRIMARY, writable=False, locked=True), Down("db2"))
    give(node, FOLLOW)
    node.round()
    assert "CHANGE" in "".join(node.server.done)
    node.peers.me = replace(PRIMARY, writable=False, locked=True, source="db2")
    assert node.round() == "replica: its primary, db2, is down"
    assert not any("read_only = OFF" in sql for sql in node.server.done)


def test_half_an_order_is_none_and_yet_keeps_a_node_closed(make: Callable[..., Node], tmp_path: Path) -> None:
    node = make(replace(PRIMARY, writable=False, locked=True), Down("db2"))
    (tmp_path / "order").write_text("db2 1")
    assert "cannot be read" in node.round()
    assert node.server.done == []


def test_an_order_that_comes_while_the_peers_are_asked_is_not_overtaken(make: Callable[..., Node]) -> None:
    node = make(replace(PRIMARY, writable=False, locked=True), Down("db2"))

    def ask_all(names: tuple[str, ...]) -> list[Peer]:
        give(node, FOLLOW)
        return [Down("db2")]

    node.peers.ask_all = ask_all
    node.controller.round()
    assert node.server.done == []


def test_a_replica_takes_over_once_it_has_everything(make: Callable[..., Node]) -> None:
    behind = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-7")
    node = make(replace(REPLICA, executed=behind), replace(PRIMARY, writable=False))
    give(node, LEAD)
    assert node.round() == "waiting: for 2 transactions, then leads by order, promotion 1"
    assert node.server.done == []
    node.peers.me = REPLICA
    assert node.round().startswith("primary: by order, promotion 1")
    assert node.server.done[-4:] == [
        "INSERT IGNORE INTO tier.promotions (term, leader) VALUES (%s, %s)",
        "SET GLOBAL read_only = OFF",
        "STOP REPLICA",
        "RESET REPLICA ALL",
    ]
    assert not node.orders.given
    assert answer(node) == str(NINE)


def test_a_replica_does_not_take_over_before_its_relay_log_is_executed(make: Callable[..., Node]) -> None:
    behind = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-7")
    node = make(replace(REPLICA, executed=behind, received=NINE), Down("db1"))
    give(node, Order("db2", 1))
    assert node.round().startswith("waiting: for 2 transactions")
    assert not any("read_only" in sql for sql in node.server.done)


def test_what_was_brought_over_is_executed_first(make: Callable[..., Node]) -> None:
    behind = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-7")
    node = make(replace(REPLICA, executed=behind), Down("db1"))
    give(node, LEAD)
    node.orders.rescue.write_text("the last two")
    node.round()
    assert node.server.done[-1] == "feed the last two"
    assert not node.orders.rescue.exists()
    assert node.orders.given


def test_what_was_brought_over_may_be_withdrawn_while_it_is_executed(
    make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-7")
    node = make(replace(REPLICA, executed=behind), Down("db1"))
    give(node, LEAD)
    node.orders.rescue.write_text("the last two")
    monkeypatch.setattr(node.server, "feed", lambda file: file.unlink())
    assert node.round().startswith("waiting: to see")


def test_a_primary_that_finds_a_later_one_closes_and_gives_up_its_own(make: Callable[..., Node]) -> None:
    """It could not be fenced; both were open. The later one is right. What was under way at its closing is kept too."""
    more = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:10-12")
    node = make(PRIMARY, replace(PRIMARY, name="db2", term=1))
    node.round()
    assert CLOSES in node.server.done
    node.peers.me = replace(PRIMARY, executed=NINE | more, writable=False, locked=True)
    node.round()
    assert "restart on copy, follow db2" in node.server.done
    assert [kept.read_text() for kept in node.orders.discarded.iterdir()] == [str(more)]


def test_a_primary_alone_leaves_word_and_takes_a_replica_back_at_once(
    make: Callable[..., Node], tmp_path: Path
) -> None:
    alone = replace(PRIMARY, alone=True)
    node = make(alone, Down("db2"), semi_sync=True)
    node.round()
    assert (tmp_path / "alone").exists()
    assert node.server.done == []
    node.peers.others = [REPLICA]
    node.round()
    assert "SET GLOBAL rpl_semi_sync_source_enabled = ON" in node.server.done
    node.peers.me = replace(PRIMARY, executed=NINE | GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:10"))
    node.server.rows = CONFIRMED
    node.round()
    assert (tmp_path / "alone").exists(), "the replica lacks one that was acknowledged alone"
    node.peers.me, node.server.rows = PRIMARY, []
    node.round()
    assert (tmp_path / "alone").exists(), "it went on alone again meanwhile"
    node.server.rows = CONFIRMED
    node.round()
    assert not (tmp_path / "alone").exists()


CONFIRMED = [
    ("Rpl_semi_sync_source_clients", "1"),
    ("Rpl_semi_sync_source_wait_sessions", "0"),
    ("Rpl_semi_sync_source_yes_tx", "9"),
]


def test_a_closed_primary_was_alone_until_the_next_one_has_everything(
    make: Callable[..., Node], tmp_path: Path
) -> None:
    """It may die before anybody has asked it what it had."""
    node = make(replace(PRIMARY, alone=True), replace(REPLICA, connected=False), semi_sync=True)
    node.orders.note_alone(True)
    give(node, FOLLOW)
    node.round()
    assert (tmp_path / "alone").exists()
    node.peers.me = replace(REPLICA, name="db1", source="db2")
    node.peers.others = [replace(PRIMARY, name="db2", term=1)]
    assert node.round().startswith("replica: of db2")
    assert not (tmp_path / "alone").exists()


def test_a_primary_that_is_to_lead_on_before_it_has_closed_leaves_word_of_what_it_lets_go(
    make: Callable[..., Node], tmp_path: Path
) -> None:
    node = make(PRIMARY, replace(REPLICA, connected=False), semi_sync=True)
    give(node, Order("db1", 2))
    assert node.round().startswith("primary: by order, promotion 2")
    assert (tmp_path / "alone").exists()


def test_an_order_that_another_promotion_overtook_is_dropped(make: Callable[..., Node]) -> None:
    """It was given up while this node was dead, and the old primary opened again."""
    later = replace(PRIMARY, term=2)
    for peer in (later, replace(later, writable=False), replace(PRIMARY, term=1)):
        node = make(replace(REPLICA, receiving=False, connected=False), peer)
        give(node, Order("db2", 1))
        node.controller.stood = node.orders.read()
        node.round()
        assert (node.orders.given, node.server.done) == (False, [])
    # Its own promotion, which it had written down when it was killed, is none.
    node = make(replace(REPLICA, term=1), replace(PRIMARY, writable=False, source="db2", term=1))
    give(node, Order("db2", 1))
    node.controller.stood = node.orders.read()
    assert node.round().startswith("primary: by order")
    # Nor is it asked of an order that has just been given.
    node = make(REPLICA, Down("db1"))
    node.peers.ask_all = lambda _: pytest.fail("the site's writers wait")
    give(node, Order("db2", 1))
    assert node.round().startswith("primary: by order")


def test_a_restarted_candidate_fetches_what_its_order_asks_for(make: Callable[..., Node]) -> None:
    behind = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-7")
    stopped = replace(REPLICA, executed=behind, receiving=False, connected=False, applying=False)
    node = make(stopped, replace(PRIMARY, writable=False))
    give(node, LEAD)
    assert node.round().startswith("waiting: for 2 transactions")
    assert node.server.done == ["START REPLICA USER = 'replication' PASSWORD = %s"]


def test_an_order_that_comes_while_another_is_carried_out_stands(make: Callable[..., Node]) -> None:
    node = make(PRIMARY, replace(REPLICA, connected=False))
    give(node, FOLLOW)
    answered = node.orders.answer

    def answer_late(order: Order, executed: GtidSet) -> None:
        answered(order, executed)
        give(node, Order("db1", 2))

    node.orders.answer = answer_late
    node.controller.round()
    assert node.orders.read() == Order("db1", 2)


def test_a_replica_is_behind_from_its_start_until_it_has_what_its_primary_had(
    make: Callable[..., Node], tmp_path: Path
) -> None:
    seven, ten = (GtidSet.parse(f"aaaaaaaa-0000-0000-0000-000000000001:1-{last}") for last in (7, 10))
    node = make(replace(REPLICA, executed=seven), PRIMARY)
    node.orders.note_behind(True)
    node.round()
    assert (tmp_path / "behind").exists()
    node.peers.others = [replace(PRIMARY, executed=ten)]  # which goes on meanwhile
    node.peers.me = replace(REPLICA, executed=seven, received=NINE)
    node.round()
    assert not (tmp_path / "behind").exists()


def test_a_primary_is_not_behind(make: Callable[..., Node], tmp_path: Path) -> None:
    node = make(PRIMARY, Down("db2"))
    node.orders.note_behind(True)
    node.round()
    assert not (tmp_path / "behind").exists()
    node = make(REPLICA, Down("db1"))
    node.orders.note_behind(True)
    node.round()
    assert (tmp_path / "behind").exists()
    give(node, Order("db2", 1))  # by force
    node.round()
    assert not (tmp_path / "behind").exists()
