"""Two balancers that share an address: who has it, what they may do, what they tell each other, and who hears them."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rdatatype
import pytest

from ladder import alerts, pair, redundancy
from ladder.engine import client
from ladder.faults import processes
from ladder.firewall import counts
from ladder.wait import wait_until
from tests.conftest import Drilled, Measure
from tests.stack import Stack

pytestmark = pytest.mark.stage(3)

MAY = {"haproxy": set(), "lb-watch": set(), "keepalived": {"NET_ADMIN", "NET_RAW"}}
SUPERVISOR = {"KILL", "NET_ADMIN", "NET_RAW", "SETGID", "SETPCAP", "SETUID"}
BITS = {"KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_ADMIN": 12, "NET_RAW": 13}
VRRP = "two balancers settle who holds the address (VRRP)"


def held_by_one(stack: Stack) -> str:
    wait_until(lambda: len(pair.holders(stack.settings, stack.stage)) == 1, within=10, what="one holds the address")
    return pair.holders(stack.settings, stack.stage)[0]


def settled(stack: Stack) -> bool:
    """The holder has seen that the other is well, some seconds after it got the address."""
    balancers = (pair.ask(stack.settings, stack.node(node)) for node in stack.stage.balancers)
    return any(seat and seat.settled for seat in balancers)


def test_one_holds_the_address_and_visitors_come_to_it(stack: Stack) -> None:
    holder = held_by_one(stack)
    wait_until(lambda: settled(stack), within=20, what="the holder has seen the other well")
    with stack.visitor() as visitor:
        answers = {visitor.get("/").headers["X-Served-By"].split(", ")[0] for _ in range(10)}
    assert answers == {holder} == {pair.reached(stack.settings, stack.stage)}
    assert (stack.holder("lb"), {holder, stack.holder("standby")}) == (holder, {*stack.stage.balancers})
    (row,) = [line for line in stack.must("vip").splitlines() if f"│ {holder} " in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [holder, "yes", "yes", "well, and the other is"]
    assert stack.must("lb").startswith(holder)


def servers(stack: Stack, node: str) -> Iterator[dict[str, str]]:
    """/proc/*/status of the first process and all below it; not of what looks in, such as a health check."""
    ours = {1, *(number for numbers in processes(stack.node(node)).values() for number in numbers)}
    said = stack.run_in(node, "sh", "-c", "for f in /proc/[0-9]*/status; do cat $f 2>/dev/null; echo; done")
    for status in said.split("\n\n"):
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields and int(fields["Pid"]) in ours:
            yield fields


def test_each_process_has_what_it_needs_and_nothing_more(stack: Stack) -> None:
    """HAProxy and what watches it: no capability, now or ever. keepalived: two. Who supervises them: six."""
    for node in stack.stage.balancers:
        seen: set[str] = set()
        for found in servers(stack, node):
            name = found["Name"].strip()
            seen.add(name)
            may = MAY.get(name, SUPERVISOR)
            for field in ("CapPrm", "CapBnd"):
                assert int(found[field], 16) == sum(1 << BITS[each] for each in may), (node, name, field)
            assert found["NoNewPrivs"].strip() == "1", (node, name)
            assert ("0" in found["Uid"].split()) == (name not in MAY), (node, name)
        assert {*MAY, "s6-svscan", "s6-supervise"} == seen, node


def test_whoever_asks_too_often_is_told_so_by_either_balancer(stack: Stack) -> None:
    """What one counts of a visitor the other knows, and goes on with when the address comes to it."""
    holder, standby = stack.holder("lb"), stack.holder("standby")

    def ask(node: str, question: str) -> str:
        return stack.run_in(node, "as-server", "sh", "-c", f"echo '{question}' | socat -t3 - /run/haproxy.sock")

    def answer() -> tuple[int, str, str]:
        with stack.visitor() as visitor:
            found = visitor.get("/")
            return found.status_code, found.headers.get("Retry-After", ""), found.headers["X-Served-By"].split(", ")[0]

    assert answer() == (200, "", holder)
    for node in (holder, standby):
        assert "last_status=ESTA" in ask(node, "show peers pair"), node
    visitors = re.findall(r"key=(\S+)", ask(holder, "show table pair/visitors"))
    assert visitors, "nobody is counted"
    for visitor in visitors:
        # It is forgotten over the next 20 s.
        ask(holder, f"set table pair/visitors key {visitor} data.http_req_rate 1000000000")
    assert answer() == (429, "10", holder)
    stack.must("stop", NODE="lb")
    assert answer() == (429, "10", standby)
    wait_until(lambda: answer() == (200, "", standby), within=60, what="he may ask again")


def test_adverts_are_let_in_from_the_other_balancer_alone(stack: Stack) -> None:
    """That is what stands for a password: somebody else in the zone says that he has the highest priority, in vain."""

    def advert(node: str, target: str) -> int:
        """Sends ten adverts from a node's network, as its root could if it had the right, and returns how many left."""
        script = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112); sent = 0\n"
            "for _ in range(10):\n"
            "    try:\n"
            f"        s.sendto(bytes([0x31, 10, 255, 1, 0, 10, 0, 0]), ('{target}', 0)); sent += 1\n"
            "    except PermissionError: pass\n"
            "print(sent)"
        )
        words = ["docker", "run", "--rm", f"--network=container:{stack.node(node).id}", "--cap-drop=ALL"]
        words += ["--cap-add=NET_RAW", "--user=root", "--entrypoint=python3", f"{stack.settings.project}/app"]
        return int(subprocess.run([*words, "-c", script], capture_output=True, text=True, check=True).stdout)

    def dropped() -> int:
        return sum(
            c.packets for c in counts(stack.settings) if (c.node, c.chain) == (holder, "input") and not c.accepts
        )

    holder = held_by_one(stack)
    own = f"{stack.settings.subnet_prefix}.1.{11 if holder == 'lb1' else 12}"
    heard = {count.node for count in counts(stack.settings) if count.reason == VRRP and count.packets}
    assert heard == {*stack.stage.balancers}
    # Its own firewall holds it back; and where that is gone, the balancer's.
    assert advert("dns", own) == 0
    before = dropped()
    stack.run_in("dns", "nft", "delete", "table", "inet", "firewall")
    try:
        assert advert("dns", own) == 10
    finally:
        stack.run_in("dns", "firewall-load")
    assert dropped() >= before + 10
    assert held_by_one(stack) == holder


def test_a_new_certificate_reaches_both(stack: Stack) -> None:
    said = stack.must("certificate", RENEW="1")
    assert all(f"{node} serves the new certificate" in said for node in stack.stage.balancers)
    stack.must("kill", NODE="lb")
    wait_until(lambda: "this one" in stack.must("certificate"), within=20, what="the other serves it too")


def test_no_address_is_left_behind_on_the_network(stack: Stack) -> None:
    """What the engine knows of the network has the balancers' own addresses alone: the shared one is between them."""
    network = client().networks.get(f"{stack.settings.project}_edge")
    addresses = {each["IPv4Address"].partition("/")[0] for each in network.attrs["Containers"].values()}
    assert not addresses & {*pair.addresses(stack.settings)}


@pytest.fixture
def both(stack: Stack) -> Iterator[dict[str, str]]:
    """Both balancers work, each at an address; one again at the end, whatever happened. Each address, and its home."""
    stack.up = -1
    stack.must("up", STAGE="3", LB_CLUSTER="active-active")
    stack.is_up(3)
    at_home(stack)
    yield pair.homes(stack.settings)
    stack.up = -1
    stack.must("up", STAGE="3", LB_CLUSTER="active-passive")
    stack.is_up(3)


def at_home(stack: Stack) -> None:
    wait_until(
        lambda: not redundancy.missing(stack.settings, stack.stage),
        within=30,
        what="each address is at home",
        hint=lambda: redundancy.missing(stack.settings, stack.stage),
    )


def answering(stack: Stack) -> Counter[str]:
    """Which balancers answer eight visitors who come one after the other, each by a connection of his own."""
    found: Counter[str] = Counter()
    for _ in range(8):
        with stack.visitor() as visitor:
            answer = visitor.get("/")
            assert answer.status_code == 200
            found[answer.headers["X-Served-By"].split(", ")[0]] += 1
    return found


def in_front(stack: Stack, address: str) -> tuple[str, str]:
    """A visitor in the network in front of the edge: his own address, and the balancer that answers him there."""
    script = (
        f"import http.client; c = http.client.HTTPConnection('{address}', timeout=5); c.connect()\n"
        "own = c.sock.getsockname()[0]; c.request('GET', '/', headers={'Host': 'www.foobar.com'})\n"
        "print(own, c.getresponse().headers['X-Served-By'])"
    )
    words = ["docker", "run", "--rm", f"--network={stack.settings.project}_access", "--cap-drop=ALL"]
    words += ["--entrypoint=python3", f"{stack.settings.project}/app", "-c", script]
    own, balancer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return own, balancer


@pytest.mark.long
def test_two_addresses_each_the_others_backup_both_in_the_dns(stack: Stack, both: dict[str, str]) -> None:
    question = dns.message.make_query("www.foobar.com", "A")
    answer = dns.query.udp(question, stack.settings.address, port=stack.settings.dns_port, timeout=10)
    told = sorted(str(each) for rrset in answer.answer for each in rrset if rrset.rdtype == dns.rdatatype.A)
    assert told == [f"{stack.settings.subnet_prefix}.0.{number}" for number in (3, 4)]
    for address, balancer in zip(told, both.values(), strict=True):
        visitor, answers = in_front(stack, address)
        assert answers == balancer
        wait_until(lambda: f'"visitor": "{visitor}"' in stack.log(balancer), within=10, what="his address is logged")  # noqa: B023
    # Through the one that is published: in turn.
    assert answering(stack) == dict.fromkeys(stack.stage.balancers, 4)
    assert (stack.holder("lb"), stack.holder("standby")) == stack.stage.balancers
    rows = [line.split("│")[1:-1] for line in stack.must("vip").splitlines() if "│ lb" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [balancer, address, address, address, "well"] for address, balancer in both.items()
    ]

    stack.must("kill", NODE="lb1")
    wait_until(lambda: pair.seats(stack.settings, stack.stage)["lb2"].holds == (*both,), within=10, what="lb2 has both")
    assert {pair.reached(stack.settings, stack.stage, address) for address in both} == {"lb2"}
    assert answering(stack) == {"lb2": 8}
    wait_until(lambda: ("StandbyGone", "lb2") in alerts.firing(stack.settings), within=60, what="somebody is missed")
    assert not {"NoHolder", "TwoHolders"} & {name for name, _ in alerts.firing(stack.settings)}

    stack.must("heal")
    at_home(stack)
    assert answering(stack) == dict.fromkeys(both.values(), 4)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["kill lb2", "kill lb"])
def test_of_two_that_work_the_loss_of_either_is_half_of_the_visitors(
    stack: Stack, both: dict[str, str], drilled: Drilled, measure: Measure, fault: str
) -> None:
    """For as long as the address takes to move; and what is under way when it goes home."""
    record, verdict = drilled(fault)
    assert record.means == "kill lb"
    measure(fault, verdict.streams)
    assert verdict.reads.until_healed is False


@pytest.mark.stage(2)
def test_a_stage_with_one_balancer_has_no_pair(stack: Stack) -> None:
    for verb in ("vip",):
        done = stack.make(verb)
        assert done.returncode != 0
        assert "stage 2 has no second balancer, which is one of its faults; try: make up STAGE=3" in done.stderr
    assert "stage 2 has no 'lb'" in stack.make("kill", NODE="lb").stderr
