"""The address of two balancers under faults: it moves when it has to, in time, and never for nothing."""

import resource
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ladder import pair
from ladder.drills.checker import check, sentence
from ladder.drills.drill import Drill, plan
from ladder.drills.promises import PROMISES, broken
from ladder.wait import wait_until
from tests.conftest import Drilled, Measure
from tests.stack import Stack
from tests.stages.test_balancer import sessions
from tests.stages.test_pair import settled
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(3)

LONG = pytest.mark.long


def moves(stack: Stack) -> int:
    """How often one of the two has got the address, since their start."""
    return sum(stack.log(node).count("Entering MASTER STATE") for node in stack.stage.balancers)


@pytest.mark.parametrize("fault", ["kill lb", *(pytest.param(f"{verb} lb", marks=LONG) for verb in ("stop", "crash"))])
def test_the_other_balancer_serves_on(drilled: Drilled, measure: Measure, fault: str) -> None:
    """The promise says how much visitors may feel; a clean stop is felt by nobody."""
    _, verdict = drilled(fault)
    measure(fault, verdict.streams)
    assert verdict.reads.until_healed is False
    if fault == "stop lb":
        assert (verdict.reads.bad, verdict.writes.bad) == (0, 0)


def test_a_visitor_at_rest_hears_that_the_balancer_leaves(stack: Stack) -> None:
    """His connection is closed while the balancer still has the address: else his next request would be lost."""
    door = stack.settings.address, stack.settings.http_port
    with socket.create_connection(door, timeout=10) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n")
        assert b" 308 " in visitor.recv(4096)
        stack.must("stop", NODE="lb")
        assert visitor.recv(4096) == b""


@LONG
@pytest.mark.parametrize("turn", ["first", "then the other"])
def test_a_frozen_balancer_gives_way_when_it_thaws(stack: Stack, measure: Measure, turn: str) -> None:
    """Whichever it is: of equals, VRRP prefers the higher. Frozen, its kernel still answers for the address."""
    frozen, other = stack.holder("lb"), stack.holder("standby")
    wait_until(lambda: settled(stack), within=20, what="the holder has seen the other well")
    stack.must("pause", NODE="lb")
    begun = time.monotonic()
    wait_until(lambda: pair.reached(stack.settings, stack.stage) == other, within=5, what="visitors come to the other")
    measure(f"seconds until visitors came to the other ({turn})", round(time.monotonic() - begun, 2))
    with stack.visitor() as visitor:
        assert visitor.get("/").headers["X-Served-By"].startswith(other)
    before = moves(stack)
    stack.must("unpause", NODE=frozen)
    wait_until(lambda: pair.holders(stack.settings, stack.stage) == [other], within=10, what="one holds it")
    stack.must("heal")
    assert pair.reached(stack.settings, stack.stage) == other
    assert moves(stack) == before, "it took the address back"


@LONG
def test_two_that_do_not_hear_each_other_both_hold_it_and_visitors_meet_one(stack: Stack, measure: Measure) -> None:
    first, second = stack.holder("lb"), stack.holder("standby")
    wait_until(lambda: settled(stack), within=20, what="the holder has seen the other well")
    assert stack.must("partition", NODE="lb", WAY="standby").strip() == f"{first} is cut off from {second}"
    wait_until(lambda: len(pair.holders(stack.settings, stack.stage)) == 2, within=10, what="both hold it")
    assert "both balancers hold the address" in stack.make("kill", NODE="lb").stderr
    with stack.visitor() as visitor:
        assert {visitor.get("/").headers["X-Served-By"].split(", ")[0] for _ in range(20)} == {second}
    stack.must("heal")
    assert pair.holders(stack.settings, stack.stage) == [second]


@LONG
def test_the_address_stays_under_load(stack: Stack, traffic: Traffic) -> None:
    before = moves(stack)
    traffic.more("read", 20 * 20)
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert moves(stack) == before


@LONG
def test_visitors_who_fill_a_balancer_do_not_take_the_address_from_it(stack: Stack, measure: Measure) -> None:
    """Each keeps a connection that he has no more use for. Whoever asks whether the balancer is well is let in."""
    holder, before = stack.holder("lb"), moves(stack)
    wait_until(lambda: settled(stack), within=20, what="the holder has seen the other well")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    door, seen = (stack.settings.address, stack.settings.http_port), 0
    with ExitStack() as visitors:

        def full() -> bool:
            for _ in range(100):  # each time; the edge lets 200 a second in
                visitor = visitors.enter_context(socket.create_connection(door, timeout=10))
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n")
            return sessions(stack, holder, "visitors 1 -1") >= 1800

        wait_until(full, within=60, what="the balancer takes no more", every=0.5)
        since = time.monotonic()

        def stays() -> bool:
            nonlocal seen
            assert pair.holders(stack.settings, stack.stage) == [holder]
            seen += sessions(stack, holder, "visitors 1 -1") >= 1800
            return time.monotonic() > since + 5  # ten times what lb-watch waits for an answer

        wait_until(stays, within=20, what="five seconds pass")
    measure("times that it was seen full", seen)
    assert seen > 1
    assert moves(stack) == before
    assert settled(stack)


@LONG
@pytest.mark.parametrize("asked", [True, False], ids=["HAProxy is asked", "nobody asks HAProxy"])
def test_without_its_health_check_the_address_stays_where_nobody_answers(
    stack: Stack, tmp_path: Path, measure: Measure, asked: bool
) -> None:
    """HAProxy is gone for 8 s, and its supervisor told to leave it at that; keepalived and the server are well."""
    holder = stack.holder("lb")
    stack.run_in(holder, "s6-svc", "-O", "/run/s6/haproxy")
    if not asked:
        stack.run_in(holder, "s6-svc", "-d", "/run/s6/lb-watch")
    stack.broken = True

    def come_back(said: str) -> None:
        if " lost haproxy " in said:
            threading.Timer(8, stack.run_in, (holder, "s6-svc", "-u", "/run/s6/haproxy", "/run/s6/lb-watch")).start()

    verdict = check(Drill(stack.settings, plan("crash lb", reads=50, writes=10), tmp_path / "record", come_back).run())
    measure("crash lb", sentence(verdict))
    assert not verdict.void
    assert bool(list(broken(PROMISES[3]["crash lb"], verdict))) is not asked


def test_every_way_to_lose_a_balancer_is_promised() -> None:
    wanted = {f"{verb} lb" for verb in ("kill", "stop", "crash", "pause", "partition")}
    assert wanted | {"crash lb keepalived", "partition lb standby", "lose lb 10"} <= set(PROMISES[3])
