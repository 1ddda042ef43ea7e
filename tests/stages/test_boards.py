"""The boards on a running stage: every question is answered, every fault marked; with and without Grafana."""

import io
import json
import math
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from ladder import boards, collector, images, metrics
from ladder.engine import client
from ladder.firewall import counts
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack

pytestmark = pytest.mark.stage(2)


def get(stack: Stack, path: str) -> str:
    """What Grafana answers to somebody on this machine."""
    with collector.opener().open(f"http://127.0.0.1:{stack.settings.grafana_port}{path}", timeout=10) as response:
        found: bytes = response.read()
    return found.decode()


@pytest.mark.stage(2, 3)
def test_every_question_of_every_board_has_an_answer(stack: Stack, measure: Measure) -> None:
    # Of two balancers, and of a primary that somebody confirms, there is nothing to be told below stage 3.
    later = () if stack.stage.paired else (*metrics.PAIR, *metrics.SEMI_SYNC, 'proxy="balancers"')
    asked = {
        path.stem: [each for each in boards.questions(path)[:-1] if not any(word in each for word in later)]
        for path in boards.FOLDER.glob("*.json")
    }
    open_ones: list[str] = []

    def unanswered(question: str) -> bool:
        return all(math.isnan(sample.value) for sample in collector.ask(stack.settings, question))

    def answered() -> bool:
        open_ones[:] = [f"{name}: {each}" for name, all_ in asked.items() for each in all_ if unanswered(each)]
        return not open_ones

    with stack.author() as author:
        author.post("/api/messages", json={"body": "for the boards"})
        author.get("/")
    wait_until(answered, within=60, what="every panel shows something", every=2, hint=lambda: "\n".join(open_ones))
    measure("boards, questions", (len(asked), sum(map(len, asked.values()))))
    # One that fails for one layer leaves its panels to the others, who answer.
    (failed,) = collector.ask(stack.settings, "sum(prometheus_rule_evaluation_failures_total)")
    assert failed.value == 0


def test_what_the_workbench_does_is_marked_on_every_board(stack: Stack) -> None:
    begun = time.time()
    stack.must("partition", NODE="pager")
    stack.must("heal", NODE="pager")
    ended = time.time()
    marks = {boards.questions(path)[-1] for path in boards.FOLDER.glob("*.json")}
    (question,) = marks
    # A board asks for the last seconds, again and again; a busy machine has taken longer over the two commands.
    question = question.replace("[15s]", "[5m]")
    found = {sample.labels["mark"]: sample.value / 1000 for sample in collector.ask(stack.settings, question)}
    assert begun <= found["partition pager"] <= found["heal pager"] <= ended


def test_without_its_image_grafana_is_left_out(stack: Stack) -> None:
    if images.is_here(images.grafana_image()):
        pytest.skip("its image is here")
    assert "grafana" not in stack.must("ps")
    assert "grafana" not in stack.compose("ps", "--all")


def program() -> bytes:
    """A stand-in for Grafana, as an image: listens where it does, and asks the collector where it does."""
    script = rb"""#!/usr/bin/perl
use IO::Socket::INET;
$SIG{TERM} = sub { exit };
if ($ARGV[0] eq "--version") { print "a stand-in\n"; exit }
my $server = IO::Socket::INET->new(LocalPort => 3000, Listen => 5, ReuseAddr => 1) or die;
while (my $visitor = $server->accept) {
    my $path = (split " ", <$visitor>)[1];
    my $said = "well";
    if ($path =~ s{^/proxy}{}) {
        my $asked = IO::Socket::INET->new(PeerAddr => "prometheus.mgmt:9090", Timeout => 3) or next;
        print $asked "GET $path HTTP/1.0\r\n\r\n";
        $said = do { local $/; <$asked> };
        $said =~ s/.*?\r\n\r\n//s;
    }
    print $visitor "HTTP/1.0 200 OK\r\n\r\n$said";
    close $visitor;
}
"""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("usr/share/grafana/bin/grafana")
        entry.size, entry.mode = len(script), 0o755
        tar.addfile(entry, io.BytesIO(script))
    return archive.getvalue()


@pytest.fixture
def grafana(stack: Stack) -> Iterator[bool]:
    """The stage with Grafana: its maker's, or where that can't be had a stand-in. True, if it is its maker's."""
    name, tag = images.grafana_image().split(":")
    real = images.is_here(f"{name}:{tag}")
    if not real:
        client().api.import_image_from_data(program(), repository=name, tag=tag)
    stack.up = -1
    try:
        said = stack.must("up", STAGE="2")
        stack.is_up(2)
        assert f"http://127.0.0.1:{stack.settings.grafana_port}/ has boards" in said
        yield real
    finally:
        if not real:
            client().images.remove(f"{name}:{tag}", force=True)
            stack.up = -1
            assert boards.LEFT_OUT in stack.must("up", STAGE="2").replace("\n", " ")
            stack.is_up(2)
            missed = 'instance:health_age:seconds{instance="grafana"}'
            wait_until(lambda: not collector.ask(stack.settings, missed), within=60, what="nobody misses it")


def test_grafana_is_for_this_machine_and_reaches_the_collector_alone(stack: Stack, grafana: bool) -> None:
    assert "grafana" in stack.stage.nodes
    assert "healthy" in next(line for line in stack.must("ps").splitlines() if "grafana" in line)
    get(stack, "/api/health")
    if grafana:
        for path in boards.FOLDER.glob("*.json"):
            assert json.loads(get(stack, f"/api/dashboards/uid/{path.stem}"))["dashboard"]["uid"] == path.stem
        with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
            get(stack, "/api/admin/settings")
        answer = get(stack, "/api/datasources/proxy/uid/collector/api/v1/query?query=up")
    else:
        answer = get(stack, "/proxy/api/v1/query?query=up")
    assert len(json.loads(answer)["data"]["result"]) > 10
    used = {
        count.reason: count.packets for count in counts(stack.settings) if count.node == "grafana" and count.accepts
    }
    assert used["Grafana asks for its boards"]
    assert used["people on this machine look at boards"]
    published = stack.node("grafana").ports["3000/tcp"] or []
    assert [door["HostIp"] for door in published] == ["127.0.0.1"]
