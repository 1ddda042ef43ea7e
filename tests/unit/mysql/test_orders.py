"""Orders on a node's volume: whole or none, answered once, and how the command inside the node gives them."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from node.gtid import GtidSet
from node.orders import Order, Orders

from ladder.wait import wait_until

GTIDS = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:1-9")
ORDER = Order("db2", 3, GTIDS)
SCRIPT = Path(__file__).parents[3] / "mysql/tell"


def tell(root: Path, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The script, as if the volume were here."""
    script = SCRIPT.read_text().replace("/var/lib/mysql", str(root))
    return subprocess.run(["sh", "-c", script, "tell", *words], input=given, capture_output=True)


@pytest.mark.parametrize("order", [ORDER, Order("db2", 3)], ids=str)
def test_an_order_is_read_as_it_was_given_and_stands_until_it_is_carried_out(tmp_path: Path, order: Order) -> None:
    orders = Orders(tmp_path)
    assert tell(tmp_path, "order", "0", *str(order).split()).returncode == 1
    assert (orders.given, orders.read()) == (True, order)
    orders.done(order)
    assert not orders.given
    assert Order.parse((tmp_path / "order.last").read_text()) == order


def test_done_ends_the_order_that_was_carried_out_and_no_other(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    tell(tmp_path, "order", "0", "db1", "4")
    orders.rescue.write_text("for the newer one")
    orders.done(ORDER)
    assert (orders.read(), orders.rescue.exists()) == (Order("db1", 4), True)
    tell(tmp_path, "withdraw")
    orders.done(ORDER)
    assert not orders.given
    assert (tmp_path / "order.last").read_text() == "db1 4\n"


@pytest.mark.parametrize("text", ["", "db2", "db2 3", "db2 three\n", "db2 3 a b\n", "db2 3 nonsense\n"])
def test_what_is_no_whole_order_is_given_but_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "order").write_text(text)
    orders = Orders(tmp_path)
    assert (orders.given, orders.read()) == (True, None)


def test_telling_an_order_waits_for_its_answer_and_not_for_an_earlier_one(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.answer(ORDER, GtidSet())

    def node() -> None:
        wait_until(lambda: orders.given, within=20, what="the order stands", every=0.02)
        orders.answer(Order("db1", 2), GtidSet())  # it is still at the one before
        threading.Timer(0.3, orders.answer, (ORDER, GTIDS)).start()

    threading.Thread(target=node).start()
    told = tell(tmp_path, "order", "20", *str(ORDER).split())
    assert (told.returncode, told.stdout.decode().strip()) == (0, str(GTIDS))


def test_what_is_brought_over_is_whole_and_goes_with_the_order(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    for end in (lambda: orders.done(Order("db2", 3)), lambda: tell(tmp_path, "withdraw")):
        tell(tmp_path, "order", "0", "db2", "3")
        assert tell(tmp_path, "rescue", given=b"BINLOG").returncode == 0
        assert orders.rescue.read_bytes() == b"BINLOG"
        end()
        assert (orders.given, orders.rescue.exists()) == (False, False)


def test_anything_else_is_refused(tmp_path: Path) -> None:
    assert tell(tmp_path, "dance").returncode == 2


def test_alone_says_since_when(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.note_alone(True)
    first = (tmp_path / "alone").read_text()
    orders.note_alone(True)
    assert (tmp_path / "alone").read_text() == first
    assert first.endswith("UTC\n")
    orders.note_alone(False)
    orders.note_alone(False)
    assert not (tmp_path / "alone").exists()
