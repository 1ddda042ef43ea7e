"""The firewalls while the site runs: who is held off, what is seen of it, and who may change a rule, under traffic."""

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest

from ladder import door
from ladder.firewall import Count, counts
from ladder.settings import ROOT
from ladder.stages import ZONES
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack, file_with
from tests.stages.test_firewall import CROWD, addresses, met, passes
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)


def test_a_server_cannot_change_its_own_rules(stack: Stack) -> None:
    for node in stack.stage.nodes:
        ask = ["as-server", "nft", "delete", "table", "inet", "firewall"]
        done = subprocess.run(["docker", "exec", str(stack.node(node).id), *ask], capture_output=True, text=True)
        assert done.returncode != 0
        assert "not permitted" in done.stderr, node


def crowd(stack: Stack, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Bursts of new connections by one visitor; how many."""
    for _ in range(3):
        with ExitStack() as visitors:
            for _ in range(400):
                one = visitors.enter_context(socket.socket(type=kind))
                one.setblocking(False)
                one.connect_ex((stack.settings.address, door.port(stack.settings)))
                if kind is socket.SOCK_DGRAM:
                    one.send(b"?")
    return 3 * 400


@pytest.mark.parametrize(
    ("kind", "rule"), [(socket.SOCK_STREAM, CROWD), (socket.SOCK_DGRAM, f"{CROWD}, by HTTP/3")], ids=["tcp", "udp"]
)
def test_a_crowd_from_one_address_is_held_off_and_the_site_is_there_afterwards(
    stack: Stack, measure: Measure, kind: socket.SocketKind, rule: str
) -> None:
    before = met(stack, "visitors", accepts=False)[rule]
    sent = 0

    def held_off() -> bool:  # to count takes as long as the edge needs to let one more in
        nonlocal sent
        sent += crowd(stack, kind)
        return met(stack, "visitors", accepts=False)[rule] > before

    wait_until(held_off, within=60, what="the edge drops a connection")
    measure("connections until some were dropped", sent)
    begun = time.monotonic()
    stack.serves()
    measure("seconds until the site answers this visitor again", round(time.monotonic() - begun, 1))


def test_the_table_shows_every_rule(stack: Stack) -> None:
    said = stack.must("firewall")
    for count in counts(stack.settings):
        assert count.reason in said


def test_watching_shows_a_drop_as_it_happens_and_leaves_nothing_behind(stack: Stack) -> None:
    shut = (addresses(stack, "db1")[0], "tcp", 22)
    shown: list[str] = []
    with subprocess.Popen(
        ["make", "--silent", "firewall", "WATCH=1"],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as watching:

        def read() -> None:
            for line in watching.stdout or ():
                shown.append(line)

        def seen() -> bool:
            passes(stack, "app1", [shut], seconds=1)
            return any(line.endswith(f"→ {shut[0]}:22, which was to go out\n") for line in shown)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            wait_until(seen, within=60, what="the drop is shown")

            def crowd_seen() -> bool:
                crowd(stack)
                return any("edge dropped tcp " in line and "which came in too fast" in line for line in shown)

            wait_until(crowd_seen, within=60, what="the edge's are shown as well")
        finally:
            os.killpg(watching.pid, signal.SIGINT)
            reader.join()
    for node in stack.stage.nodes:
        ask = "cat /proc/[0-9]*/comm 2>/dev/null; true"
        wait_until(lambda: "nft" not in stack.run_in(node, "sh", "-c", ask).split(), within=20, what="nft has ended")  # noqa: B023


def test_what_a_health_check_that_took_too_long_leaves_is_buried(stack: Stack) -> None:
    for node in stack.stage.nodes:
        stack.run_in(node, "sh", "-c", "(nft list tables >/dev/null 2>&1 &)")
        states = "cat /proc/[0-9]*/stat 2>/dev/null; true"
        wait_until(
            lambda: "(nft)" not in stack.run_in(node, "sh", "-c", states),  # noqa: B023
            within=20,
            what=f"{node} has buried the nft that nobody waits for",
        )


@pytest.mark.parametrize(
    ("verb", "what"), [("firewall", "firewall"), ("reload", "firewall"), ("renew", "HTTPS"), ("certificate", "HTTPS")]
)
def test_stages_without_them_say_so(stack: Stack, verb: str, what: str) -> None:
    done = stack.make(verb, COMPOSE_PROFILES="stage1", RENEW="1")
    assert done.returncode != 0
    assert f"stage 1 has no {what}, which is one of its faults; try: make up STAGE=2" in done.stderr


@pytest.mark.long
def test_changed_rules_are_loaded_under_traffic_without_a_failed_request(stack: Stack, traffic: Traffic) -> None:
    with file_with(ROOT / "firewall/web.nft", 'comment "a web server passes', 'comment "a changed web server passes'):
        for _ in range(5):
            assert "have loaded the rules" in stack.must("reload")
            traffic.more("read", 10)
        traffic.more("write", 4)
        assert any("a changed web server" in reason for reason in met(stack, "web"))
    stack.must("reload")
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")


def test_a_broken_rule_is_refused_before_anything_is_changed(stack: Stack) -> None:
    before: list[Count] = counts(stack.settings)
    with file_with(
        ROOT / "firewall/data.nft",
        'tcp dport 3306 counter accept comment "databases',
        'tcp dport mysql! accept comment "x',
    ):
        tried = stack.make("reload"), stack.make("up", STAGE="2")
    for done in tried:
        assert done.returncode != 0
        assert "the rules in firewall/ are wrong; nothing was changed" in done.stderr
        assert "firewall/data.nft:" in done.stderr
        assert "syntax error" in done.stderr
        assert "Traceback" not in done.stderr
    assert stack.starts() == stack.since
    assert [(c.node, c.chain, c.reason) for c in counts(stack.settings)] == [
        (c.node, c.chain, c.reason) for c in before
    ]
    assert set(ZONES) >= {c.node for c in before}


def test_a_broken_rule_of_the_uplink_does_not_take_the_uplink_away(stack: Stack) -> None:
    with file_with(ROOT / "firewall/uplink.nft", 'counter dnat to $front_door comment "visitors"', "dnat too much"):
        for done in (stack.make("reload"), stack.make("up", STAGE="2")):
            assert done.returncode != 0
            assert "the rules in firewall/ are wrong; nothing was changed" in done.stderr
            assert "firewall/uplink.nft:" in done.stderr
    assert stack.starts() == stack.since
