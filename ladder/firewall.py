"""The firewall of every server: what its rules have let through and dropped, drops as they happen, changed rules.

The rules are in firewall/; each server loads those of its zones when it starts (firewall/firewall-load).
"""

import io
import json
import re
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from docker.models.containers import Container
from rich.table import Table

from ladder.engine import containers, exec_in
from ladder.errors import UserError
from ladder.nodes import demand, stage_in_force
from ladder.settings import ROOT, Settings

POLICIES = ("firewall", "edge", "web", "data", "mgmt")
"""The files: what all have in common, then a zone each."""


@dataclass(frozen=True)
class Count:
    """One rule of one server, and how many packets it has met since it was loaded."""

    node: str
    chain: str
    """The policy that it belongs to, or the hook in which everything ends that no policy lets through."""
    reason: str
    accepts: bool
    packets: int


def guarded(settings: Settings) -> dict[str, Container]:
    """The running servers of a stage with firewalls.

    Raises:
        UserError: this stage has none.
    """
    stage = stage_in_force(settings)
    demand(stage, "firewalls")
    present = containers(settings)
    return {node: present[node] for node in stage.nodes if node in present and present[node].status == "running"}


def counts(settings: Settings) -> list[Count]:
    """Every rule that counts, of every running server."""
    found = guarded(settings)
    ask = ["nft", "--terse", "--json", "list", "table", "inet", "firewall"]
    with ThreadPoolExecutor() as pool:
        said = pool.map(lambda container: exec_in(container, ask), found.values())
    return [count for node, text in zip(found, said, strict=True) if text for count in parse(node, text)]


def parse(node: str, listing: str) -> Iterator[Count]:
    """The counting rules of one server, from nft's JSON."""
    for each in json.loads(listing)["nftables"]:
        rule = each.get("rule", {})
        expressions = {key: value for expression in rule.get("expr", []) for key, value in expression.items()}
        if "counter" in expressions and "comment" in rule:
            packets = expressions["counter"]["packets"]
            yield Count(node, rule["chain"], rule["comment"], "accept" in expressions, packets)


def table(settings: Settings) -> Table:
    """Every rule once, with its packets and the servers that have met it."""
    found = counts(settings)
    open_ones = [node for node in guarded(settings) if node not in {count.node for count in found}]
    shown = Table(title="packets that each rule has met since it was loaded", title_justify="left")
    for column in ("policy", "rule", "verdict", "packets", "at"):
        shown.add_column(column, justify="right" if column == "packets" else "left", no_wrap=column == "rule")
    rules = dict.fromkeys((count.accepts, count.chain, count.reason) for count in found)
    for accepts, chain, reason in sorted(rules, key=lambda rule: not rule[0]):
        same = [count for count in found if (count.accepts, count.chain, count.reason) == (accepts, chain, reason)]
        met = " ".join(f"{count.node} {count.packets}" for count in same if count.packets)
        verdict = "[green]accept[/]" if accepts else "[red]drop[/]"
        shown.add_row(chain, reason, verdict, str(sum(count.packets for count in same)), met or "–")
    for node in open_ones:
        shown.add_row("", "[red]no rules at all! Start it anew:[/] make restart NODE=" + node, "", "", node)
    return shown


# What `nft monitor trace` says of a packet when it meets the rule that drops it.
TRACED = re.compile(
    r"inet firewall (?P<hook>input|output|forward|visitors) packet: .*?ip6? saddr (?P<source>\S+) "
    r"ip6? daddr (?P<target>\S+)"
    r"(?:.*?(?P<protocol>tcp|udp) sport (?P<from>\d+) (?:tcp|udp) dport (?P<to>\d+))?"
)
HOOKS = {
    "input": "came in",
    "output": "was to go out",
    "forward": "was to be passed on",
    "visitors": "came in too fast, or as none should",
}


def dropped(node: str, line: str) -> str:
    """A line of nft's trace for people; "" if it tells of no dropped packet."""
    if not (packet := TRACED.search(line)):
        return ""
    source, target = packet["source"], packet["target"]
    if packet["protocol"]:
        source, target = f"{source}:{packet['from']}", f"{target}:{packet['to']}"
    return f"{node} dropped {packet['protocol'] or 'a packet'} {source} → {target}, which {HOOKS[packet['hook']]}"


def watch(settings: Settings, say: Callable[[str], None]) -> None:
    """Say what every server drops, as it happens, until interrupted."""
    # What is started in a container does not end with the client that started it; its input does.
    # And nobody buries it but the shell: the first process of a container need not be one that does.
    script = "nft monitor trace & cat >/dev/null; kill $!; wait"
    watchers = [
        (
            node,
            subprocess.Popen(
                ["docker", "exec", "--interactive", str(container.id), "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # Ctrl-C is for us alone: a client that it ends while its command is being started leaves that behind.
                start_new_session=True,
            ),
        )
        for node, container in guarded(settings).items()
    ]

    def tell(node: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            if said := dropped(node, line):
                say(said)

    say("what is dropped from now on; Ctrl-C ends this")
    threads = [threading.Thread(target=tell, args=each) for each in watchers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for _, process in watchers:
            assert process.stdin
            process.stdin.close()
        for _, process in watchers:
            process.wait()


def load(settings: Settings) -> list[str]:
    """Load the rules of this checkout into every running server; what was done, in words.

    Raises:
        UserError: a server did not take them, though they passed `check`.
    """
    found = guarded(settings)
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(partial(_give, packed()), found.values()))
    if wrong := {node: text for node, text in zip(found, said, strict=True) if text}:
        node, text = next(iter(wrong.items()))
        raise UserError(f"{', '.join(wrong)} did not load the rules, the others did; {node} says:\n{text}")
    done = [f"{', '.join(found)} have loaded the rules of firewall/; `make up` builds them in"]
    absent = [node for node in stage_in_force(settings).nodes if node not in found]
    return [*done, *([f"{', '.join(absent)} did not: not running"] if absent else [])]


def packed() -> bytes:
    """The policies of this checkout, as firewall-load takes them.

    Raises:
        UserError: one can't be read.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for policy in POLICIES:
            try:
                content = (ROOT / f"firewall/{policy}.nft").read_bytes()
            except OSError as error:
                raise UserError(f"the rules can't be read, nothing was changed: {error}") from error
            entry = tarfile.TarInfo(f"{policy}.nft")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def check(settings: Settings, *, policies: bool = True) -> None:
    """Have nft read the policies of this checkout, all at once, and the uplink's rules, where it is of no consequence.

    Of the image only its nft is taken; it may be older than the rules. Without `policies`, the uplink's alone: a stage
    without firewalls has one too.

    Raises:
        UserError: a rule is wrong; nothing was changed.
    """
    prefix = settings.subnet_prefix
    values = {
        "SUBNET_PREFIX": prefix,
        "FIREWALL": "off",
        "ROLE": "edge",
        "FRONT_DOOR": f"{prefix}.1.11",
        # Only then, for not every kernel has what two doors take.
        "SECOND_DOOR": f"{prefix}.1.9" if settings.lb_cluster == "active-active" else "",
        "PAIR": "on",
        "EDGE_NEW_CONNECTIONS": str(settings.edge_new_connections),
        "REMOTE_WRITE_RECEIVER": "receiver.invalid:192.0.2.1",
        "REMOTE_WRITE_PORT": "443",
        "ALERT_WEBHOOK_RECEIVER": "webhook.invalid:192.0.2.1",
        "ALERT_WEBHOOK_PORT": "443",
        "OWN": f"{prefix}.1.2 {prefix}.2.2 {prefix}.3.2 {prefix}.4.2",
    }
    command = ["docker", "run", "--rm", "--interactive", "--network=none", "--cap-drop=ALL", "--cap-add=NET_ADMIN"]
    command += [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
    command += ["--entrypoint=sh", f"{settings.project}/edge", "-c"]
    if policies:
        script = (ROOT / "firewall/firewall-load").read_text()
        _refuse(
            subprocess.run([*command, script, "firewall-load", "--check", "-"], input=packed(), capture_output=True)
        )
    # All that the edge does but to become it, with the rules of this checkout.
    script = (ROOT / "firewall/edge-entrypoint").read_text().replace("/etc/nftables/uplink.nft", "-")
    script = script.partition("\nexec ")[0]
    _refuse(subprocess.run([*command, script], input=(ROOT / "firewall/uplink.nft").read_bytes(), capture_output=True))


def _refuse(done: subprocess.CompletedProcess[bytes]) -> None:
    """Raise UserError if nft did."""
    if done.returncode:
        said = (
            done.stderr.decode(errors="replace").replace("./", "firewall/").replace("/dev/stdin", "firewall/uplink.nft")
        )
        lines = [line for line in said.splitlines() if not line.startswith("In file included")]
        raise UserError("the rules in firewall/ are wrong; nothing was changed:\n" + "\n".join(lines))


def _give(packed: bytes, container: Container) -> str:
    """What firewall-load complains of, in one server; "" if all is well."""
    command = ["docker", "exec", "--interactive", str(container.id), "firewall-load", "-"]
    done = subprocess.run(command, input=packed, capture_output=True)
    return done.stderr.decode(errors="replace").strip() if done.returncode else ""
