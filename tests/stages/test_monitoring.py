"""Monitoring: what each server emits arrives, the figures are right, and nothing that watches is on a visitor's way."""

import itertools
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable

import pytest

from ladder import collector, marks, metrics
from ladder.collector import Sample
from ladder.errors import UserError
from ladder.qps import EVERY, SILENT
from ladder.stages import MONITORING, ZONES
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)

SEEN_WITHIN = 15.0
"""Seconds until a board shows that a server is dead: two scrapes, a second to bring them, and the machine's own."""
SCRAPE = 5.0

COUNTERS = {
    "visitors": 'sum(haproxy_frontend_http_responses_total{proxy="visitors"})',
    "balancer": 'sum(haproxy_backend_http_responses_total{proxy="web"})',
    "web": 'sum(haproxy_server_http_responses_total{proxy="web"})',
    "app": "sum(wall_http_request_duration_seconds_count)",
}
"""What each layer has counted, by the same selection as in prometheus/rules.yml."""
BY_APP = "sum(wall_database_queries_total) by (database, operation)"
STATEMENTS = "mysql_perf_schema_events_statements_total"
READS = f'sum({STATEMENTS}{{schema="foobar",operation="read"}}) by (instance)'
WRITES = f'sum({STATEMENTS}{{schema="foobar",operation="write"}}) by (instance)'


def ask(stack: Stack, question: str) -> list[Sample]:
    return collector.ask(stack.settings, question)


def number(stack: Stack, question: str) -> float:
    """The one value of a question; 0 where there is none yet."""
    return sum(sample.value for sample in ask(stack, question))


def instances(stack: Stack, question: str) -> set[str]:
    return {sample.labels["instance"] for sample in ask(stack, question)}


def raw(stack: Stack, series: str) -> list[tuple[float, float]]:
    """The values of one series as they were taken, (when, what)."""
    url = f"{collector.address(stack.settings)}/api/v1/query?{urllib.parse.urlencode({'query': series})}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        (found,) = json.load(response)["data"]["result"]
    return [(float(when), float(what)) for when, what in found["values"]]


def settled(stack: Stack, figures: Callable[[], dict[str, float]], what: str) -> dict[str, float]:
    """The figures when they have stood still for longer than every layer needs to be asked and to tell."""
    state: dict[str, float] = {}
    since = time.monotonic()

    def still() -> bool:
        nonlocal state, since
        found = figures()
        if found != state:
            state, since = found, time.monotonic()
        return time.monotonic() - since > 2 * SCRAPE + 2

    wait_until(still, within=90, what=what, every=1)
    return state


@pytest.fixture(autouse=True)
def _watched(stack: Stack) -> None:
    """Nobody is silent, as far as the collector knows; it may have been started a moment ago."""
    if not stack.stage.monitored:
        return

    def well() -> bool:
        try:
            known = {*stack.stage.balancers, "app2", "agent-data", "machine"}
            return instances(stack, "up == 1") >= known and not ask(stack, SILENT)
        except UserError:
            return False

    wait_until(well, within=60, what="every server answers its monitoring client", hint=lambda: stack.must("qps"))


@pytest.mark.stage(2, 3)
def test_every_server_emits_what_the_table_says(stack: Stack) -> None:
    missing: list[tuple[str, str]] = []

    def complete() -> bool:
        names = {(s.labels["__name__"], s.labels["instance"]) for s in ask(stack, '{__name__=~".+",instance!=""}')}
        here = {
            name: source for name, source in metrics.SOURCES.items() if name in stack.stage.nodes or name not in ZONES
        }
        wanted = {(family, name) for name, source in here.items() for family in source.families}
        wanted |= {(family, stack.holder("replica")) for family in metrics.REPLICA}
        if stack.stage.paired:
            wanted |= {(family, balancer) for family in metrics.PAIR for balancer in stack.stage.balancers}
        if stack.stage.promotes:
            wanted |= {(family, stack.holder("primary")) for family in metrics.SEMI_SYNC}
        missing[:] = sorted(wanted - names)
        return not missing

    stack.author().close()
    with stack.visitor() as visitor:
        visitor.get("/")
    wait_until(complete, within=60, what="every family of every server is there", hint=lambda: f"missing: {missing}")


def test_known_requests_are_counted_by_every_layer(stack: Stack, measure: Measure) -> None:
    """Sent so many, and every layer's counter says so: the prober, the only other visitor, is stopped meanwhile."""
    sent = 200
    stack.must("stop", NODE="blackbox-exporter")

    def counted() -> dict[str, float]:
        return {layer: number(stack, question) for layer, question in COUNTERS.items()}

    def statements() -> dict[str, float]:
        by_app = {f"{s.labels['database']} {s.labels['operation']}": s.value for s in ask(stack, BY_APP)}
        reads = {f"{s.labels['instance']} read": s.value for s in ask(stack, READS)}
        writes = {f"{s.labels['instance']} write": s.value for s in ask(stack, WRITES)}
        return {f"app: {key}": value for key, value in by_app.items()} | reads | writes

    before = settled(stack, lambda: counted() | statements(), "nobody visits")
    nginx = number(stack, "sum(nginx_http_requests_total)")
    begun = time.monotonic()
    with stack.visitor() as visitor:
        for _ in range(sent):
            assert visitor.get("/").status_code == 200
    after = settled(stack, lambda: counted() | statements(), "all have told what they counted")

    assert {layer: after[layer] - before[layer] for layer in COUNTERS} == dict.fromkeys(COUNTERS, float(sent))
    # The application and the databases count the same statements, each for itself.
    for key in (key for key in after if key.startswith("app: ")):
        database = key.removeprefix("app: ")
        mine, its = (after[name] - before.get(name, 0) for name in (key, database))
        assert mine == its, f"{database}: the application says {mine}, the database {its}"
    reads = sum(after[key] - before.get(key, 0) for key in after if key.startswith("app: ") and key.endswith("read"))
    assert reads >= sent, "a page is read from a database"
    # nginx counts health checks as well: HAProxy's once a second, the container's and the exporter's every five.
    asked = number(stack, "sum(nginx_http_requests_total)") - nginx
    seconds = time.monotonic() - begun
    assert sent <= asked <= sent + 2 * (1 / 1 + 2 / 5) * (seconds + 3 * SCRAPE)
    measure("statements read for a page", reads / sent)


@pytest.mark.long
@pytest.mark.stage(3)  # where there is more to be counted twice, or not at all
def test_the_rates_are_those_of_a_known_load(stack: Stack, traffic: Traffic, measure: Measure) -> None:
    """Steady visitors: every layer's requests a second, over 20 s, are as many as were sent."""
    traffic.more("read", 20 * 30)
    rate = traffic.rates["read"] + traffic.rates["write"]
    found = {s.labels["layer"]: s.value for s in ask(stack, 'layer:requests:rate20s{layer!="database"}')}
    writes = number(stack, 'layer:requests:rate20s{layer="database",operation="write"}')
    measure("requests a second sent, and as the layers tell", (rate, found))
    assert set(found) == {"visitors", "balancer", "web", "app"}
    for layer, value in found.items():
        assert value == pytest.approx(rate, rel=0.2), layer
    assert writes >= traffic.rates["write"]


def test_counts_are_right_after_a_worker_died(stack: Stack) -> None:
    question = 'sum(wall_http_request_duration_seconds_count{instance="app1"})'
    before = number(stack, question)
    with stack.visitor() as visitor:
        for _ in range(40):
            visitor.get("/")
    wait_until(lambda: number(stack, question) >= before + 20, within=30, what="app1 has told of its half")
    count = number(stack, question)
    script = 'for d in /proc/[0-9]*; do read -r _ _ _ p _ < $d/stat; [ "$p" = 1 ] && echo ${d#/proc/}; done; true'
    worker = stack.run_in("app1", "bash", "-c", script).split()[0]
    stack.run_in("app1", "as-server", "sh", "-c", f"kill -KILL {worker}")

    # What the collector says until its next scrape is from before: only a count that rises shows that what the dead
    # worker had counted, a good part of it all, is still in it.
    with stack.visitor() as visitor:
        for _ in range(40):
            visitor.get("/")
    wait_until(
        lambda: number(stack, question) >= count + 20,
        within=30,
        what="app1 has told of its half, with the dead worker's share",
        hint=lambda: f"{count} before, {number(stack, question)} now",
    )
    wait_until(
        lambda: (
            number(stack, 'wall_threads{instance="app1"}') == stack.settings.app_workers * stack.settings.app_threads
        ),
        within=40,
        what="a new worker has taken the dead one's place",
    )
    in_progress = 'wall_http_requests_in_progress{instance="app1"}'
    wait_until(lambda: number(stack, in_progress) == 0, within=20, what="none is in progress: a health check may be")


@pytest.mark.parametrize(
    "nodes",
    [
        "web2 app2 replica blackbox-exporter node-exporter",
        pytest.param("lb1 dns mysqld-exporter agent-web", marks=pytest.mark.long),
        pytest.param("edge logs nginx-exporter alertmanager pager", marks=pytest.mark.long),
    ],
)
def test_a_killed_server_is_seen_within_15_seconds(stack: Stack, measure: Measure, nodes: str) -> None:
    """Any of them, by its own name, those who watch included; the collector itself is said by whoever asks it."""
    killed = {stack.holder(node) if node == "replica" else node: time.monotonic() for node in nodes.split()}
    for node in killed:
        stack.must("kill", NODE=node)
        killed[node] = time.monotonic()
    unseen = {*killed}

    def seen() -> bool:
        for node in unseen & instances(stack, SILENT):
            unseen.remove(node)
            measure(f"seconds until {node} was seen", round(time.monotonic() - killed[node], 1))
        return not unseen

    wait_until(seen, within=3 * SEEN_WITHIN, what=f"{nodes} are seen to be dead", hint=lambda: f"not yet: {unseen}")
    said = " ".join(stack.must("qps").split())
    for node in killed:
        assert re.search(rf"no answer: .*\b{node}\b", said)


@pytest.mark.long
def test_a_dead_collector_costs_nothing(stack: Stack, traffic: Traffic) -> None:
    """The clients keep what they can't bring, and bring it afterwards: no scrape is missing."""
    killed = time.time()
    stack.must("kill", NODE="prometheus")
    traffic.more("read", 20 * 20)
    done = stack.make("qps")
    assert done.returncode != 0
    assert "the collector does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    stack.must("start", NODE="prometheus")
    started = time.time()
    gaps: list[float] = []

    def whole() -> bool:
        try:
            taken = [when for when, _ in raw(stack, 'up{instance="lb1"}[5m]') if when > killed - 2 * SCRAPE]
        except (OSError, ValueError):
            return False
        gaps[:] = [later - earlier for earlier, later in itertools.pairwise(taken)]
        return bool(taken) and taken[-1] > started + SCRAPE and max(gaps) < 2 * SCRAPE

    wait_until(whole, within=60, what="no scrape is missing", hint=lambda: f"seconds between two: {gaps}")
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")


def test_what_was_kept_for_longer_than_an_hour_is_taken(stack: Stack) -> None:
    """A value of an hour and a half ago, as a client brings it to a collector that was dead for so long."""
    stack.bring(marks.message({"test: late": time.time() - 90 * 60}))
    question = f'last_over_time({marks.FAMILY}{{mark="test: late"}}[10m] offset 85m)'
    wait_until(lambda: ask(stack, question), within=10, what="it is there")


@pytest.mark.long
def test_a_dead_client_is_seen_and_no_visitor_notices(stack: Stack, traffic: Traffic) -> None:
    stack.must("kill", NODE="agent-web")
    # Nobody says "0" for it: what it asked is not heard of any more.
    wait_until(lambda: not ask(stack, 'up{zone="web"}'), within=25, what="nothing is heard of the web zone")
    wait_until(lambda: "app" not in layers(stack), within=30, what="the layers without it are shown")
    stack.must("start", NODE="agent-web")
    wait_until(lambda: {"app1", "app2"} <= instances(stack, "up == 1"), within=30, what="it is heard of again")
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")


def layers(stack: Stack) -> set[str]:
    """What `make qps` shows."""
    return {row.split("│")[1].strip() for row in stack.must("qps").splitlines() if "│" in row}


def test_visitors_see_no_figures(stack: Stack) -> None:
    with stack.visitor() as visitor:
        for path in ("/metrics", "/stub_status", "/haproxy-health", "/api/metrics"):
            answer = visitor.get(path, headers={"Host": "www.foobar.com"})
            assert answer.status_code == 404, path
            assert "wall_http" not in answer.text


def test_without_a_terminal_the_layers_are_shown_once(stack: Stack) -> None:
    begun = time.monotonic()
    stack.must("qps")
    assert time.monotonic() - begun < 10 * EVERY
    wanted = {"visitors", "balancer", "web", "app", "database, reads"}
    wait_until(lambda: layers(stack) >= wanted, within=40, what=f"{wanted} are shown", hint=lambda: stack.must("qps"))


@pytest.mark.stage(1)
def test_a_stage_without_monitoring_says_so(stack: Stack) -> None:
    done = stack.make("qps")
    assert done.returncode != 0
    assert "stage 1 is not monitored, which is one of its faults; try: make up STAGE=2" in done.stderr


def test_what_watches_is_small(stack: Stack, measure: Measure) -> None:
    """The whole stage fits in 2 GiB; what watches takes less than a quarter of it."""
    sizes = stack.memory()
    assert set(sizes) == set(stack.stage.nodes)
    watching = sum(sizes[node] for node in stack.stage.nodes if node in MONITORING)
    measure("MiB of all containers, of what watches", (round(sum(sizes.values())), round(watching)))
    assert sum(sizes.values()) <= 2048, sizes
    assert watching < 512, sizes
