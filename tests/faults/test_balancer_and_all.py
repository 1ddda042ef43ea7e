"""What stage 1 still has once: the balancer. And the loss of everything: nothing acknowledged is lost with it."""

import time

import httpx
import pytest

from ladder.engine import containers
from tests.conftest import Measure, Stack
from tests.traffic import FAULTS, Traffic

BACK_WITHIN = 60.0
"""Seconds from the end of `make heal` to three successive reads and writes."""


@pytest.mark.stage(1)
def test_without_its_balancer_the_site_is_gone_and_comes_back_with_it(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    """The stated flaw of this stage, shown; stage 3 mends it."""
    for verb, undo in FAULTS:
        struck = time.monotonic()
        stack.must(verb, NODE="lb1")
        with stack.visitor(timeout=4) as visitor, pytest.raises(httpx.TransportError):
            visitor.get("/")
        stack.must(undo, NODE="lb1")
        back = [traffic.recovers(kind, within=BACK_WITHIN) for kind in ("read", "write")]
        measure(f"{verb}: seconds from its end to reading, writing", [round(each, 1) for each in back])
        measure(verb, traffic.history().between(struck, time.monotonic()).summary())
    history = traffic.stop()

    assert history.bad("read"), "nobody noticed: then this stage has a flaw less than it says"
    stack.keeps_promises(traffic.run, history)


@pytest.mark.stage(0, 1)
def test_power_cut_of_everything_keeps_every_acknowledged_write(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    primary = stack.holder("primary")
    for container in containers(stack.settings).values():
        if container.status == "running":
            container.kill(signal="SIGKILL")
    said = stack.must("heal")
    back = [traffic.recovers(kind, within=BACK_WITHIN) for kind in ("read", "write")]
    history = traffic.stop()

    measure("history", history.summary())
    measure("seconds from healed to reading, writing", [round(each, 2) for each in back])
    assert {f"{node} is started" for node in stack.stage.nodes} <= set(said.splitlines())
    assert stack.holder("primary") == primary
    stack.keeps_promises(traffic.run, history)
