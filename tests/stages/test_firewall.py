"""Three firewalls: which doors they leave open is what is written here, no more and no less.

What else they do while the site runs: test_firewall_rules.py.
"""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product

import dns.message
import dns.query
import httpx
import pytest

from ladder import alerts, pair
from ladder.engine import client
from ladder.firewall import POLICIES, counts
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack
from tests.stages.test_https import by_http3
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)

FLOWS = {
    ("lb", "web", "tcp", 80),
    ("web", "app", "tcp", 8000),
    ("app", "db", "tcp", 3306),
    ("db", "db", "tcp", 3306),
    ("edge", "dns", "udp", 53),
    ("lb", "dns", "udp", 53),
    ("web", "dns", "udp", 53),
    ("app", "dns", "udp", 53),
    ("agent-edge", "lb", "tcp", 8405),
    ("agent-edge", "dns", "tcp", 9167),
    ("agent-edge", "dns", "udp", 53),
    ("agent-edge", "blackbox-exporter", "tcp", 9115),
    ("blackbox-exporter", "edge", "tcp", 443),
    ("blackbox-exporter", "dns", "udp", 53),
    ("agent-web", "app", "tcp", 8001),
    ("agent-web", "dns", "udp", 53),
    ("agent-web", "nginx-exporter", "tcp", 9113),
    ("nginx-exporter", "web", "tcp", 8080),
    ("nginx-exporter", "dns", "udp", 53),
    ("agent-data", "mysqld-exporter", "tcp", 9104),
    ("mysqld-exporter", "db", "tcp", 3306),
    ("agent-edge", "prometheus", "tcp", 9090),
    ("agent-web", "prometheus", "tcp", 9090),
    ("agent-data", "prometheus", "tcp", 9090),
    ("prometheus", "node-exporter", "tcp", 9100),
    ("prometheus", "alertmanager", "tcp", 9093),
    ("alertmanager", "pager", "tcp", 8088),
    ("grafana", "prometheus", "tcp", 9090),
}
"""Who may open what, by role. Visitors come from outside, and so do log lines: both have tests of their own."""
BETWEEN_BALANCERS = {("lb", "lb", "tcp", 8405), ("lb", "lb", "tcp", 10000)}
"""Where two share an address. (VRRP has no ports: test_pair.py.)"""
GRAFANAS = {"Grafana asks for its boards", "people on this machine look at boards"}
"""Nobody's, where it is left out: its address is nobody's then."""
PORTS = {
    *(("tcp", port) for port in (22, 53, 80, 443, 3306, 8000, 8001, 8080, 8405, 9999, 10000, 33060)),
    *(("tcp", port) for port in (3000, 8088, 9090, 9093, 9094, 9100, 9104, 9113, 9115, 9167)),
    *(("udp", port) for port in (53, 123, 443, 514, 3306, 9999)),
}
"""Every port that a server listens on, as a test makes sure, and some that none does. All who listen answer but the
collector of logs (514): who may bring lines is in test_logs.py."""
CROWD = "too many new connections from one visitor"
"""The rule of the edge that drops what may come in, because of how fast it comes."""
Door = tuple[str, str, int]
"""Address, protocol, port."""

PROBE = """
import errno, json, select, socket, sys, time
asked = json.load(sys.stdin)
waiting = {}
passed = []
for sender, host, kind, port in asked:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    if sender:
        s.bind((sender, 0))
    try:
        found = s.connect_ex((host, port))
        if kind == "udp" and port == 443:  # a version of QUIC that nobody speaks is answered with those that are spoken
            s.send((bytes.fromhex("c01a2a3a4a08") + bytes(8) + b"\\x08").ljust(1200, b"\\0"))
        elif kind == "udp":
            s.send(bytes.fromhex("abcd01000001000000000000") + b"\\x03www\\x06foobar\\x03com\\0\\0\\x01\\0\\x01")
        elif found not in (0, errno.EINPROGRESS):
            continue  # no way there, or forbidden at once
    except OSError:
        continue
    waiting[s] = (host, kind, port)
end = time.monotonic() + float(sys.argv[1])
poll = select.poll()
by_number = {s.fileno(): s for s in waiting}
for s, (_, kind, _) in waiting.items():
    poll.register(s, select.POLLIN if kind == "udp" else select.POLLOUT)
while by_number and time.monotonic() < end:
    for number, _ in poll.poll(100):
        s = by_number.pop(number)
        poll.unregister(s)
        error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error in (0, errno.ECONNREFUSED):  # an answer, or its refusal, came from there
            passed.append(waiting[s])
json.dump(passed, sys.stdout)
"""


def role(node: str) -> str:
    return node.rstrip("0123456789")


def addresses(stack: Stack, node: str) -> list[str]:
    networks = stack.node(node).attrs["NetworkSettings"]["Networks"]
    return [network["IPAddress"] for network in networks.values()]


def answering(stack: Stack, container: str, asked: list[tuple[str, str, str, int]], seconds: float = 4.0) -> set[Door]:
    """Which of these doors, each with the address it is asked from, answer or refuse: a dropped packet does neither.

    "" is whichever address leads there. Asked in the container's network namespace by a helper, so that servers without
    Python can be asked from as well.
    """
    words = ["docker", "run", "--rm", "--interactive", f"--network=container:{container}", "--cap-drop=ALL"]
    words += ["--entrypoint=python3", f"{stack.settings.project}/app", "-c", PROBE, str(seconds)]
    done = subprocess.run(words, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {(host, kind, port) for host, kind, port in json.loads(done.stdout)}


def passes(stack: Stack, node: str, asked: list[Door], seconds: float = 4.0) -> set[Door]:
    """Which of these doors answer or refuse a server."""
    return answering(stack, str(stack.node(node).id), [("", *door) for door in asked], seconds)


def met(stack: Stack, chain: str, *, accepts: bool = True) -> dict[str, int]:
    """The rules of a policy by their reasons, with the packets of all servers."""
    found: dict[str, int] = {}
    for count in counts(stack.settings):
        if count.chain == chain and count.accepts == accepts:
            found[count.reason] = found.get(count.reason, 0) + count.packets
    return found


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """A container by a docker command that prints its id; removed at the end."""
    ident = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield ident
    finally:
        client().containers.get(ident).remove(force=True)


def shared(stack: Stack) -> list[str]:
    """What two balancers share."""
    return [*pair.addresses(stack.settings)] if stack.stage.paired else []


LISTENS = re.compile(
    r"/proc/net/(?P<kind>tcp|udp)6?: *\d+: (?P<address>[0-9A-F]+):(?P<port>[0-9A-F]{4}) \S+ (?P<state>..) "
)


def listened(stack: Stack, node: str) -> set[tuple[str, int]]:
    """The ports on which a server can be reached, (protocol, port), as its kernel lists its sockets."""
    tables = " ".join(f"/proc/net/{kind}" for kind in ("tcp", "tcp6", "udp", "udp6"))
    said = stack.run_in(node, "sh", "-c", f"cat /proc/sys/net/ipv4/ip_local_port_range; grep -H : {tables}; true")
    first, last = map(int, said.splitlines()[0].split())
    found = set()
    for line in LISTENS.finditer(said):
        kind, port = line["kind"], int(line["port"], 16)
        # An address begins at its end; ::1 is the one that has its 1 there.
        loopback = line["address"].endswith("7F") or line["address"] == f"{0:024X}01000000"
        # A datagram's socket doesn't listen: one who waits for an answer has one too, with a number that nobody chose.
        waits = line["state"] == ("0A" if kind == "tcp" else "07") and not (kind == "udp" and first <= port <= last)
        if waits and not loopback:
            found.add((kind, port))
    return found


@pytest.mark.stage(2, 3)
def test_every_port_that_a_server_listens_on_is_tried(stack: Stack) -> None:
    """One that is forgotten there would be shut or open unseen."""
    found = {node: listened(stack, node) for node in stack.stage.nodes}
    assert {node: ports - PORTS for node, ports in found.items() if ports - PORTS} == {}
    assert found["web1"] == {("tcp", 80), ("tcp", 8080)}, "it can be seen"
    assert ("udp", 443) in found["lb1"]
    assert ("udp", 53) in found["dns"]


@pytest.mark.stage(3)
def test_every_server_reaches_exactly_what_is_declared(stack: Stack, measure: Measure) -> None:
    """Every ordered pair on every port, at every address, and the world outside on top.

    On stage 3, which has every server and every flow of stage 2; the policies are the same files.
    """
    nodes = stack.stage.nodes
    doors = {
        (address, kind, port): node for node in nodes for address in addresses(stack, node) for kind, port in PORTS
    }
    # Visitors alone come to this one. Who has it, reaches itself.
    holder = stack.holder("lb")
    doors |= {(address, kind, port): "the shared address" for address in shared(stack) for kind, port in PORTS}
    world = [(f"{stack.settings.subnet_prefix}.{zone}.254", kind, port) for zone in (1, 2, 4) for kind, port in PORTS]
    world += [(f"{stack.settings.subnet_prefix}.{zone}.1", kind, port) for zone in (0, 3, 4) for kind, port in PORTS]
    world += [(f"{stack.settings.subnet_prefix}.5.254", kind, port) for kind, port in PORTS]

    def found(node: str) -> set[tuple[str, str, str, int]]:
        own = {node, "the shared address"} if node == holder else {node}
        asked = [door for door, owner in doors.items() if owner not in own]
        answered = passes(stack, node, [*asked, *world])
        return {(node, doors.get((host, kind, port), "world"), kind, port) for host, kind, port in answered}

    with ThreadPoolExecutor(4) as pool:
        open_doors = set().union(*pool.map(found, nodes))
    # It may have moved meanwhile.
    now = stack.holder("lb")
    open_doors = {door for door in open_doors if door[:2] != (now, "the shared address")}

    declared = {
        (source, target, kind, port)
        for source, target in product(nodes, nodes)
        for kind, port in PORTS
        if source != target and (role(source), role(target), kind, port) in FLOWS | BETWEEN_BALANCERS
    }
    measure("doors tried", len(nodes) * (len(doors) + len(world)))
    assert open_doors - declared == set(), "nobody declared these"
    assert declared - open_doors == set(), "these are declared and closed"


@pytest.mark.stage(2, 3)
def test_a_visitor_reaches_the_site_and_the_name_server_and_nothing_else(stack: Stack) -> None:
    """Asked in the network in front of the edge, where visitors arrive: each host by a visitor of its own.

    One who asked them all would be a crowd (firewall/edge.nft).
    """
    project, prefix = stack.settings.project, stack.settings.subnet_prefix
    hosts = {address for node in stack.stage.nodes for address in addresses(stack, node)} | {*shared(stack)}
    # Of the addresses there, the edge has those below 5 and blackbox-exporter has 200.
    senders = {host: f"{prefix}.0.{number}" for number, host in enumerate(sorted(hosts), start=100)}
    # These visitors know the way to the servers behind the edge, which those outside don't.
    steps = [f"ip route replace {prefix}.0.0/16 via {prefix}.0.2"]
    steps += [f"ip address add {sender}/32 dev eth0" for sender in senders.values()]
    words = ["docker", "run", "--rm", "--detach", f"--network={project}_access", "--cap-drop=ALL"]
    words += ["--cap-add=NET_ADMIN", "--user=root", "--entrypoint=sleep", f"{project}/edge", "60"]
    with running(words) as visitors:
        subprocess.run(["docker", "exec", visitors, "sh", "-c", " && ".join(steps)], check=True)
        before = met(stack, "visitors", accepts=False)[CROWD]
        asked = [(sender, host, kind, port) for host, sender in senders.items() for kind, port in PORTS]
        answered = answering(stack, visitors, asked)
        held_off = met(stack, "visitors", accepts=False)[CROWD] - before
    assert held_off == 0, "what was dropped for being too many says nothing of its door: a wrong one would seem shut"

    # Of two balancers neither is reached at its own address.
    (lb,) = shared(stack) or [f"{prefix}.1.11"]
    names = f"{prefix}.1.53"
    # At an address that two share, HAProxy answers a version that it doesn't know by its own address, which nobody
    # asked; who comes by HTTP/3 is in test_https.py.
    web = {("tcp", 80), ("tcp", 443)} | ({("udp", 443)} if not shared(stack) else set())
    asking = {("tcp", 53), ("udp", 53)}
    assert answered == {
        *((f"{prefix}.0.2", *each) for each in web | asking),
        *((lb, *each) for each in web),
        *((names, *each) for each in asking),
    }


def test_every_flow_is_used(stack: Stack, traffic: Traffic) -> None:
    """A door that nobody needs is a door too many."""
    traffic.more("read", 20)
    traffic.more("write", 4)
    question = dns.message.make_query("www.foobar.com", "A")
    for ask in (dns.query.udp, dns.query.tcp):
        ask(question, stack.settings.address, port=stack.settings.dns_port, timeout=10)
    plain = httpx.get(f"http://{stack.settings.address}:{stack.settings.http_port}/", trust_env=False)
    assert plain.status_code == 308
    headers, _ = asyncio.run(by_http3(stack.settings, "/"))
    assert headers[b":status"] == b"200"
    subprocess.run(["docker", "exec", str(stack.node("web1").id), "getent", "hosts", "nobody.example"])
    stack.must("qps")
    before = len([*alerts.told(stack.settings)])

    def told() -> bool:
        return any("web2" in message["summary"] for message in [*alerts.told(stack.settings)][before:])

    stack.must("kill", NODE="web2")
    wait_until(told, within=90, what="somebody is told of web2")
    stack.must("heal")

    for policy in POLICIES:
        chain = "flows" if policy == "firewall" else policy
        for reason, packets in met(stack, chain).items():
            if "grafana" not in stack.stage.nodes and reason in GRAFANAS:
                continue
            assert packets, f"nobody used this flow of {policy}.nft: {reason}"
    assert met(stack, "flows")


def guarded(stack: Stack, node: str) -> bool:
    """What no rule lets through is dropped."""
    return "policy drop" in stack.run_in(node, "sh", "-c", "nft list table inet firewall || true")


def test_rules_are_there_before_the_server_is_and_survive_kill_and_start(stack: Stack) -> None:
    """In the same network namespace that the process begins in: a new one at every start."""
    for node in ("web1", "db2"):
        stack.must("kill", NODE=node)
        stack.must("start", NODE=node)
        wait_until(partial(guarded, stack, node), within=10, what=f"{node} has its rules")
        asked = [(stack_address, "tcp", 22) for stack_address in addresses(stack, node)]
        assert not passes(stack, "app1", asked, seconds=2), node


def test_a_balancer_without_its_rules_is_let_in_by_nginx_alone(stack: Stack) -> None:
    """What comes in is checked where it comes in."""
    application = addresses(stack, "app1")
    stack.run_in("lb1", "nft", "delete", "table", "inet", "firewall")
    try:
        asked = [(address, kind, port) for address in application for kind, port in PORTS]
        assert not passes(stack, "lb1", asked)
        assert passes(stack, "lb1", [(addresses(stack, "web2")[0], "tcp", 80)])
    finally:
        stack.run_in("lb1", "firewall-load")


@pytest.mark.parametrize(("forged", "passed"), [(True, False), (False, True)])
def test_a_visitor_with_the_address_of_a_server_gets_nowhere(stack: Stack, forged: bool, passed: bool) -> None:
    """A packet that comes in from outside and claims to come from the web zone; and one that claims nothing."""
    prefix, name_server = stack.settings.subnet_prefix, addresses(stack, "dns")[0]
    sender = f"ip address add {prefix}.2.99/32 dev eth0; from='src {prefix}.2.99';" if forged else "from=;"
    script = f"{sender} ip route add {prefix}.1.0/24 via {prefix}.0.2 $from; echo x > /dev/udp/{name_server}/53"
    words = ["docker", "run", "--rm", f"--network={stack.settings.project}_access", "--cap-drop=ALL"]
    words += ["--cap-add=NET_ADMIN", "--entrypoint=bash", f"{stack.settings.project}/edge", "-c", script]

    def packets() -> int:
        """Of the rules that let a question through."""
        questions = ("visitors ask", "servers ask")
        found = (
            count for count in counts(stack.settings) if count.node == "edge" and count.reason.startswith(questions)
        )
        return sum(count.packets for count in found)

    before = packets()
    subprocess.run(words, check=True)
    assert (packets() > before) == passed


def test_without_its_rules_a_server_is_open(stack: Stack) -> None:
    """The test above can fail."""
    target = addresses(stack, "web1")[0]
    assert not passes(stack, "app2", [(target, "tcp", 80)], seconds=2)
    for node in ("web1", "app2"):
        stack.run_in(node, "nft", "delete", "table", "inet", "firewall")
    try:
        assert passes(stack, "app2", [(target, "tcp", 80)])
    finally:
        for node in ("web1", "app2"):
            stack.run_in(node, "firewall-load")
