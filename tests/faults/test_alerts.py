"""Every alert fires within a minute when its fault is done to a running stage, is told, and ends when it is healed."""

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from ladder import alerts, certificates, collector, marks
from ladder.errors import UserError
from ladder.settings import ROOT
from ladder.wait import wait_until
from pki.certificates import LEAF_DAYS, make_leaf
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)

FIRES_WITHIN = 60.0
ENDS_WITHIN = 60.0
"""Seconds after the healing: a scrape, the window of a rate, Alertmanager's next news."""

GREEDY = """
import pymysql, select, sys
password = open("/run/secrets/mysql_app_password").read().strip()
held = []

def more():
    held.append(pymysql.connect(host=sys.argv[1], user="app", password=password, ssl_disabled=True))

def taken():
    with held[0].cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        return int(cursor.fetchone()[1])

more()
while not select.select([sys.stdin], [], [], 1)[0]:  # until its input ends
    try:
        while taken() < 210:  # of 220, whoever has the others; the exporter needs one
            more()
    except pymysql.err.OperationalError as error:
        if error.args[0] != 1040:  # too many connections, which is the point
            raise
"""


def firing(stack: Stack) -> set[tuple[str, str]]:
    try:
        return alerts.firing(stack.settings)
    except UserError:
        return set()


@pytest.fixture(autouse=True)
def _quiet(stack: Stack) -> None:
    """What a test before this one did is over."""
    wait_until(lambda: not alerts.firing(stack.settings), within=90, what="no alert", hint=lambda: str(firing(stack)))


def fire(stack: Stack, measure: Measure, *wrong: tuple[str, str]) -> None:
    """They do, (alert, instance), within a minute, and whoever is to be told is told."""
    begun = time.monotonic()
    silent = {*wrong}

    def seen() -> bool:
        for alert in silent & firing(stack):
            silent.remove(alert)
            measure(f"seconds until {' '.join(alert)} fired", round(time.monotonic() - begun))
        return not silent

    wait_until(seen, within=FIRES_WITHIN, what=f"{wrong} fire", hint=lambda: f"not yet: {silent}", every=1)
    wait_until(lambda: all(told(stack, *each, "firing") for each in wrong), within=30, what=f"{wrong} are told")


def told(stack: Stack, name: str, instance: str, state: str) -> bool:
    """The last message about it says so."""
    messages = [m for m in alerts.told(stack.settings) if (m["alert"], m["instance"]) == (name, instance)]
    return bool(messages) and messages[-1]["state"] == state


def end(stack: Stack, *healed: tuple[str, str]) -> None:
    wait_until(
        lambda: all(told(stack, *each, "over") for each in healed), within=ENDS_WITHIN, what=f"{healed} are over"
    )


def failures(stack: Stack) -> float:
    """Rules that the collector could not work out since it was started."""
    (sample,) = collector.ask(stack.settings, "sum(prometheus_rule_evaluation_failures_total)")
    return sample.value


SITE = "https://www.foobar.com/"


def test_a_dead_web_server_two_of_those_who_watch_and_a_dead_client(stack: Stack, measure: Measure) -> None:
    """A client asks the first; the second's health check is missed; the third is the prober, and without it nobody
    knows how the site is; of the last nothing is heard.
    """
    servers = ("ServerDown", "web2"), ("ServerDown", "logs"), ("ServerDown", "blackbox-exporter")
    wrong = *servers, ("AgentSilent", "agent-data")
    for _, node in wrong:
        stack.must("kill", NODE=node)
    fire(stack, measure, *wrong)
    said = stack.must("alerts")
    assert "ServerDown (web2)" in said
    assert "make logs NODE=web2" in said
    stack.must("heal")
    end(stack, *wrong)


@pytest.mark.long
def test_a_dead_balancer_is_a_dead_site_and_a_replica_that_is_cut_off_is_broken(stack: Stack, measure: Measure) -> None:
    """It can't reach its source. (A receiver that is merely stopped, the node's controller starts again at once.)"""
    wrong = ("SiteDown", SITE), ("ReplicaBroken", stack.holder("replica"))
    stack.must("partition", NODE="primary")
    stack.must("kill", NODE="lb1")
    fire(stack, measure, *wrong)
    stack.must("heal")
    end(stack, *wrong)


@pytest.mark.long
def test_a_certificate_near_its_end_hardly_a_connection_left_and_a_server_that_tries_shut_doors(
    stack: Stack, measure: Measure, tmp_path: Path
) -> None:
    """The certificate is the user's own, and ours comes back afterwards. Whoever has taken the server looks around: ten
    questions a second to a database, which no web server asks.
    """
    old = make_leaf(certificates.authority(), datetime.now(UTC) - timedelta(days=LEAF_DAYS - 3))
    for name, content in (("site.crt", old.chain), ("site.key", old.key)):
        (tmp_path / name).write_bytes(content)
    replica = stack.holder("replica")
    knock = f"echo > /dev/udp/{stack.settings.subnet_prefix}.3.253/3306"
    knocks = f"while read -t 0.1 || [ $? -gt 128 ]; do {knock}; done 2>/dev/null"
    wrong = ("CertificateEnds", SITE), ("Saturation", replica), ("FirewallDrops", "web1")

    stack.must("certificate", RENEW="1", TLS_CERTIFICATE=str(tmp_path / "site.crt"), TLS_KEY=str(tmp_path / "site.key"))
    with (
        stack.background("app1", "as-server", "python3", "-c", GREEDY, replica),
        stack.background("web1", "as-server", "bash", "-c", knocks),
    ):
        fire(stack, measure, *wrong)
    stack.must("certificate", RENEW="1")
    end(stack, *wrong)


@pytest.mark.long
def test_a_dead_primary_is_errors_for_those_who_write(stack: Stack, measure: Measure, traffic: Traffic) -> None:
    wrong = ("NoPrimary", ""), ("ErrorRatio", "lb1")
    stack.must("kill", NODE="primary")
    fire(stack, measure, *wrong)
    stack.must("heal")
    end(stack, *wrong)


@pytest.mark.long
def test_a_replica_that_falls_behind(stack: Stack, measure: Measure, traffic: Traffic) -> None:
    replica = stack.holder("replica")
    with stack.background(replica, "mysql", "--unbuffered", "-e", "FLUSH TABLES WITH READ LOCK; SELECT SLEEP(50)"):
        fire(stack, measure, ("ReplicaLagging", replica))
    end(stack, ("ReplicaLagging", replica))


@contextmanager
def opened(stack: Stack, replica: str) -> Iterator[None]:
    """Somebody opens the replica by hand, while the node's controller, which would close it again, is frozen."""
    stack.node(replica).kill(signal="SIGSTOP")
    stack.run_in(replica, "mysql", "-e", "SET GLOBAL read_only = OFF")
    try:
        yield
    finally:
        stack.run_in(replica, "mysql", "-e", "SET GLOBAL super_read_only = ON")
        stack.node(replica).kill(signal="SIGCONT")


@pytest.mark.long
@pytest.mark.stage(3)
def test_two_balancers_that_hold_the_address_and_none(stack: Stack, measure: Measure) -> None:
    """First they don't hear each other; then somebody stops keepalived on both, while HAProxy runs on."""
    wrong = ("TwoHolders", ""), ("StandbyGone", stack.holder("lb"))
    stack.must("partition", NODE="lb", WAY="standby")
    fire(stack, measure, *wrong)
    stack.must("heal")
    end(stack, *wrong)

    for node in stack.stage.balancers:
        stack.run_in(node, "s6-svc", "-d", "/run/s6/keepalived")
    try:
        fire(stack, measure, ("NoHolder", ""))
    finally:
        for node in stack.stage.balancers:
            stack.run_in(node, "s6-svc", "-u", "/run/s6/keepalived")
    end(stack, ("NoHolder", ""))


@pytest.mark.long
@pytest.mark.stage(3)
def test_a_primary_whose_replica_is_dead_writes_on_one_node(stack: Stack, measure: Measure, traffic: Traffic) -> None:
    """The primary finds out at a write, so somebody writes."""
    wrong = ("WritesOnOneNode", stack.holder("primary"))
    stack.must("kill", NODE="replica")
    fire(stack, measure, wrong)
    stack.must("heal")
    end(stack, wrong)


def connections(layer: str, when: float) -> bytes:
    """None, of a web server that there isn't: a series of a WriteRequest (ladder/marks.py)."""
    labels = {"__name__": "nginx_connections_active", "instance": "nobody", "layer": layer}
    words = b"".join(marks.field(1, marks.label(name, value)) for name, value in labels.items())
    value = b"\x09" + struct.pack("<d", 0) + b"\x10" + marks.number(int(when * 1000))
    return marks.field(1, words + marks.field(2, value))


@contextmanager
def two_of_a_name(stack: Stack) -> Iterator[None]:
    """Somebody brings two series that a rule makes one of, by the label that it sets, which it can't work out."""
    over = threading.Event()

    def bring() -> None:
        while not over.wait(2):
            # Of a moment ago: so they are forgotten soon after the last of them.
            when = time.time() - 10
            stack.bring(b"".join(connections(layer, when) for layer in ("this", "that")))

    thread = threading.Thread(target=bring)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.long
def test_two_that_accept_writes_a_rule_that_fails_and_a_dead_collector(stack: Stack, measure: Measure) -> None:
    """The first two the collector tells; of the last only the pager can, who hears it no more. The collector, started
    anew, has counted no failure.
    """
    told_by_it = ("TwoPrimaries", ""), ("RulesFail", "prometheus")
    with opened(stack, stack.holder("replica")), two_of_a_name(stack):
        fire(stack, measure, *told_by_it)

    begun = time.monotonic()
    stack.must("kill", NODE="prometheus")
    wrong = ("Watchdog", "")
    wait_until(
        lambda: told(stack, *wrong, "firing"), within=FIRES_WITHIN + 10, what="the dead collector is told", every=1
    )
    measure("seconds until the dead collector was told", round(time.monotonic() - begun))
    said = " ".join(stack.must("alerts").split())
    assert "the collector does not answer; see: make ps" in said
    assert "│ firing │ Watchdog" in said

    stack.must("heal")
    end(stack, wrong, *told_by_it)


def test_a_healthy_stage_under_load_is_quiet(stack: Stack, traffic: Traffic) -> None:
    seen: set[tuple[str, str]] = set()

    def watched() -> bool:
        seen.update(firing(stack))
        return traffic.now() > 45  # three times what an alert waits

    wait_until(watched, within=90, what="so many seconds of visits", every=2)
    assert not seen
    assert failures(stack) == 0
    assert not told(stack, "Watchdog", "", "firing")


def test_every_alert_is_proven_here() -> None:
    text = (ROOT / "tests/faults/test_alerts.py").read_text()
    groups = yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert f'("{rule["alert"]}", ' in text, rule["alert"]
        assert {"summary", "look"} <= set(rule["annotations"])
