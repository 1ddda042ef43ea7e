"""Faults: what can be done to a node, and how each is undone. One vocabulary for commands, drills, tests and docs.

All are real: signals, packet filters, removed containers and volumes; nothing is pretended inside the servers.
A page for each: docs/faults/.
"""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from ladder import certificates, configuration, deploy, firewall, marks, packets, pair, promote, rotation, scale, stack
from ladder.engine import client, compose, containers, exec_in
from ladder.errors import UserError
from ladder.nodes import BALANCER_ROLES, ROLES, demand, meant, stage_in_force, targets
from ladder.settings import Settings
from ladder.stages import JOBS, SERVERS, ZONES, Stage, is_database, kind

Found = dict[str, Container]

DELAY = 0.3
"""Seconds that `slow` takes if the user says nothing else."""
SLOWEST, FASTEST = 10.0, 0.01
PERCENT = 10
"""Of a hundred packets, those that `lose` loses if the user says nothing else."""
DAEMONS = {
    **{"edge": "sleep", "dns": "nsd", "lb": "haproxy", "web": "nginx", "app": "gunicorn", "db": "mysqld"},
    **dict.fromkeys(("agent-edge", "agent-web", "agent-data", "prometheus"), "prometheus"),
    **{"blackbox-exporter": "blackbox_exporter", "mysqld-exporter": "mysqld_exporter"},
    **{"nginx-exporter": "nginx-prometheus-exporter", "node-exporter": "node_exporter"},
    **{"alertmanager": "alertmanager", "pager": "python3", "grafana": "grafana", "logs": "rsyslogd"},
}
"""The process that does a node's work, by kind of node."""


@dataclass(frozen=True)
class Order:
    """One fault as it is said: "kill web1", "crash app1 gunicorn", "slow app1 0.5", "power-cut"."""

    verb: str
    target: str = ""
    """A container, a server or a role; nothing for what is done to the whole stage."""
    option: str = ""
    """The process to crash, the way of a partition or from whom, the delay in seconds, the loss in percent; "" for the
    default."""

    def __str__(self) -> str:
        return " ".join(word for word in (self.verb, self.target, self.option) if word)


@dataclass(frozen=True)
class Fault:
    """One verb of the vocabulary."""

    verb: str
    act: Callable[[Settings, Order, Found], list[str]]
    """Does it to all of these containers, and returns what was done, in words."""
    wanted: tuple[str, ...] = ("running",)
    """The states of a container that it makes sense in; one that never ran counts as exited."""
    option: str = ""
    """How its option is called, as a value of make; "" if it has none."""
    whole: bool = False
    """It is done to the whole stage."""
    lasting: bool = False
    """It stays until it is undone."""
    needs: str = ""
    """What the stage must have for it, by the name of Stage's field."""
    told: str = ""
    """What it is told in place of a node, if it is."""

    @property
    def form(self) -> str:
        """How it is said."""
        target = [self.told] if self.told else [] if self.whole else ["NODE"]
        return " ".join([self.verb, *target, *([f"[{self.option}]"] if self.option else [])])


def at_once(act: Callable[[Container], object], found: Mapping[str, Container]) -> None:
    """Do it to all in the same moment."""
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        list(pool.map(act, found.values()))


def simple(done: str, act: Callable[[Container], object]) -> Callable[[Settings, Order, Found], list[str]]:
    """What is one call to the engine for each container."""

    def do(settings: Settings, order: Order, found: Found) -> list[str]:
        at_once(act, found)
        return [f"{node} is {done}" for node in found]

    return do


def _start(settings: Settings, order: Order, found: Found) -> list[str]:
    at_once(Container.start, found)
    gone = [node for node in meant(settings, order.target) if node not in found]
    return [f"{node} is started" for node in found] + _create(settings, gone)


def _create(settings: Settings, gone: list[str]) -> list[str]:
    """Create what has no container. A database may have lost its schema: the job looks after that."""
    if gone:
        emptied = any(is_database(node) for node in gone if node not in JOBS)
        compose(settings, *deploy.CREATE, *dict.fromkeys((*gone, *(JOBS if emptied else ()))))
    return [f"{node} is created anew" for node in gone]


KILL_AS_THEIR_USER = """
user=$(stat -c %u "/proc/$1")
[ "$(id -u)" = 0 ] || exec kill -KILL "$@"
exec setpriv --reuid="$user" --regid="$user" --clear-groups -- sh -c 'kill -KILL "$@"' sh "$@"
"""
"""Whoever may do nothing else may still end what runs as himself; root here may not end what runs as others."""


def addresses(container: Container) -> list[str]:
    """Every address of a container's own; a dead one has none."""
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    return [str(network["IPAddress"]) for network in networks if network["IPAddress"]]


def _crash(settings: Settings, order: Order, found: Found) -> list[str]:
    said = []
    for node, container in found.items():
        name = order.option or daemon(node)
        numbers = processes(container).get(name, [])
        exec_in(container, ["sh", "-c", KILL_AS_THEIR_USER, "sh", *map(str, numbers)])
        said.append(f"{node} lost {name} (SIGKILL to process {', '.join(map(str, numbers))})")
    return said


def _partition(settings: Settings, order: Order, found: Found) -> list[str]:
    if order.option and order.option not in packets.WAYS:
        others = targets(settings, order.option)
        away = [address for container in others.values() for address in addresses(container)]
        at_once(lambda container: packets.drop_between(settings, container, away), found)
        return [f"{node} is cut off from {', '.join(others)}" for node in found]
    stage = stage_in_force(settings)
    shared = pair.addresses(settings) if stage.paired and found.keys() <= {*stage.balancers} else ()
    at_once(lambda container: packets.drop(settings, container, order.option or "both", shared), found)
    what = {"in": ": what comes in is lost", "out": ": what goes out is lost"}.get(order.option, "")
    return [f"{node} is cut off{what}" for node in found]


def _slow(settings: Settings, order: Order, found: Found) -> list[str]:
    seconds = float(order.option or DELAY)
    at_once(lambda container: packets.delay(settings, container, seconds), found)
    return [f"{node} is slow: what it sends leaves {seconds:g} s later" for node in found]


def _lose(settings: Settings, order: Order, found: Found) -> list[str]:
    percent = int(order.option or PERCENT)
    at_once(lambda container: packets.lose(settings, container, percent), found)
    return [f"{node} loses {percent} of 100 packets that it sends" for node in found]


def _recreate(settings: Settings, order: Order, found: Found) -> list[str]:
    deploy.replace(settings, *found)
    return [f"{node} is a new container" for node in found]


def _wipe(settings: Settings, order: Order, found: Found) -> list[str]:
    def lose(container: Container) -> None:
        disk = client().volumes.get(f"{settings.project}_{container.labels['com.docker.compose.service']}")
        container.remove(force=True)
        disk.remove()

    at_once(lose, found)
    return [f"{node} has lost its disk, and is gone" for node in found]


def _power_cut(settings: Settings, order: Order, found: Found) -> list[str]:
    at_once(lambda container: container.kill(signal="SIGKILL"), found)
    return [f"the power is cut: {', '.join(found)} are killed (SIGKILL)"]


def _deploy(settings: Settings, order: Order, found: Found) -> list[str]:
    return [deploy.deploy(settings, stage_in_force(settings))]


def _renew(settings: Settings, order: Order, found: Found) -> list[str]:
    return certificates.renew(settings)


def _promote(settings: Settings, order: Order, found: Found) -> list[str]:
    return list(promote.promote(settings))


def _reload(settings: Settings, order: Order, found: Found) -> list[str]:
    firewall.check(settings)
    return [*configuration.load(settings, stage_in_force(settings)), *firewall.load(settings)]


def _scale(settings: Settings, order: Order, found: Found) -> list[str]:
    return scale.scale(settings, stage_in_force(settings), order.target)


ANY_STATE = ("running", "paused", "exited")
STOPPED = ("exited",)
FAULTS: dict[str, Fault] = {
    fault.verb: fault
    for fault in (
        Fault("kill", simple("killed (SIGKILL)", lambda c: c.kill(signal="SIGKILL")), lasting=True),
        Fault("stop", simple("stopped", lambda c: c.stop(timeout=stack.grace(c))), lasting=True),
        Fault("crash", _crash, option="PROCESS", lasting=True),
        Fault("pause", simple("frozen", Container.pause), lasting=True),
        Fault("partition", _partition, option="WAY", lasting=True),
        Fault("slow", _slow, option="DELAY", lasting=True),
        Fault("lose", _lose, option="PERCENT", lasting=True),
        Fault("restart", simple("restarted", lambda c: c.restart(timeout=stack.grace(c)))),
        Fault("recreate", _recreate, wanted=("running", "exited")),
        Fault("wipe", _wipe, wanted=ANY_STATE, lasting=True),
        Fault("power-cut", _power_cut, wanted=("running", "paused"), whole=True, lasting=True),
        Fault("deploy", _deploy, whole=True),
        Fault("renew", _renew, wanted=ANY_STATE, whole=True, needs="https"),
        Fault("promote", _promote, wanted=ANY_STATE, whole=True, needs="promotes"),
        Fault("reload", _reload, wanted=ANY_STATE, whole=True, needs="firewalls"),
        Fault("scale", _scale, whole=True, needs="apart", told="[WEB=n] [APP=n]"),
        Fault("start", _start, wanted=STOPPED),
        Fault("unpause", simple("thawed", Container.unpause), wanted=("paused",)),
    )
}
"""Every verb; the last two undo others."""

LASTING = frozenset(verb for verb, fault in FAULTS.items() if fault.lasting)
"""What stays until it is undone. The others are complete in themselves; a crash is where the process is supervised."""


def parse(words: str) -> Order:
    """An order from what a user says.

    Raises:
        UserError: there is no such fault, or it isn't said like that.
    """
    verb, *rest = words.split() or [""]
    fault = _known(verb)
    least, most = (1, 2) if fault.told else (0, 0) if fault.whole else (1, 2 if fault.option else 1)
    if not least <= len(rest) <= most:
        raise UserError(f"{words.strip()!r} is not complete or too long; say: {fault.form}")
    order = Order(verb, " ".join(rest)) if fault.told else Order(verb, *rest)
    _refuse_option(order)
    return order


def _known(verb: str) -> Fault:
    if verb not in FAULTS:
        raise UserError(f"there is no fault {verb!r}. There are {', '.join(FAULTS)}")
    return FAULTS[verb]


def _refuse_option(order: Order) -> None:
    """Raise UserError for an option that can't be meant; whether a process is there is another question."""
    name, value = FAULTS[order.verb].option, order.option
    if not value:
        return
    if not name:
        raise UserError(f"{order.verb} has no such choice as {value!r}; say: {FAULTS[order.verb].form}")
    known = {*packets.WAYS, *map(kind, (*ZONES, *SERVERS)), *ROLES, *BALANCER_ROLES}
    if name == "WAY" and kind(value) not in known:
        raise UserError(f"WAY={value}: one of {', '.join(packets.WAYS)}, or from whom alone: another's name")
    if name == "PERCENT" and not (re.fullmatch(r"[0-9]{1,2}", value) and int(value)):
        raise UserError(f"PERCENT={value}: a whole number from 1 to 99")
    if name == "DELAY" and not (re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", value) and FASTEST <= float(value) <= SLOWEST):
        raise UserError(f"DELAY={value}: seconds, a number from {FASTEST:g} to {SLOWEST:g}")


def check(settings: Settings, order: Order) -> Found:
    """The containers that an order is about.

    Raises:
        UserError: it makes no sense here and now: an unknown verb, option or target, a container in the wrong state,
            no disk to lose, no such process. Nothing was touched.
    """
    fault = _known(order.verb)
    _refuse_option(order)
    stage = stage_in_force(settings)
    if fault.whole and order.target and not fault.told:
        raise UserError(f"{order.verb} is done to the whole stage; say: make {order.verb}")
    if fault.needs:
        demand(stage, fault.needs)
    if order.verb == "scale":
        scale.refuse(settings, stage, order.target)
    names = stage.nodes if fault.whole else meant(settings, order.target)
    if fault.option == "WAY" and order.option and order.option not in packets.WAYS:
        others = targets(settings, order.option)
        if both := [node for node in names if node in others]:
            raise UserError(f"{', '.join(both)} can't be cut off from itself")
        if dead := [node for node, container in others.items() if not addresses(container)]:
            raise UserError(f"{', '.join(dead)}: not running, so there is nothing to be cut off from; see: make ps")
    present = containers(settings)
    found = {node: present[node] for node in names if node in present}
    if order.verb == "power-cut":
        found = {node: container for node, container in found.items() if container.status in fault.wanted}
        if not found:
            raise UserError(f"can't cut the power: nothing runs; bring it up first: make up STAGE={stage.number}")
        return found
    if (gone := [node for node in names if node not in present]) and order.verb not in ("start", "scale"):
        raise UserError(f"{', '.join(gone)} has no container; create it again: make heal")
    for node, container in found.items():
        if _state(container) not in fault.wanted:
            which = f": {node}" if fault.whole else f" {node}: it"
            raise UserError(f"can't {order.verb}{which} is {container.status}; see `make ps`, or undo all: make heal")
        if order.verb == "wipe" and not is_database(node):
            databases = ", ".join(stage.databases)
            raise UserError(f"{node} has no disk of its own with anything of the site; these have one: {databases}")
        if order.verb == "crash" and (name := order.option or daemon(node)) not in (running := processes(container)):
            raise UserError(f"can't crash {name} in {node}: it runs {', '.join(sorted(running)) or 'nothing to crash'}")
    return found


def _state(container: Container) -> str:
    # A container that never ran is "created"; it can be started like one that ended.
    return "exited" if container.status == "created" else str(container.status)


def carry_out(settings: Settings, order: Order) -> list[str]:
    """Do it to every container that is meant, or to none when it makes no sense for one. What was done, in words.

    Raises:
        UserError: see check; or the engine refused half-way.
    """
    found = check(settings, order)
    begun = time.time()
    try:
        said = FAULTS[order.verb].act(settings, order, found)
    except docker.errors.APIError as error:
        raise UserError(f"`{order}` failed half-way: {error.explanation}; undo it: make heal") from error
    marks.put(settings, str(order), begun)
    return said


def heal(settings: Settings, stage: Stage, *nodes: str) -> list[str]:
    """Undo every fault of the stage, or of what these names mean, as far as it can be seen. What was done, in words."""
    names = [name for node in nodes for name in meant(settings, node)] or stage.nodes
    if not any(node in containers(settings) for node in stage.nodes):
        raise UserError(f"stage {stage.number} is not up; bring it up: make up STAGE={stage.number}")
    stack.remove_half_made(settings)
    present = containers(settings)
    found = {name: present[name] for name in names if name in present}
    begun = time.time()
    said: dict[str, list[str]] = {}

    def mend(container: Container) -> None:
        name = container.labels["com.docker.compose.service"]
        done = said[name] = []
        if container.status == "paused":
            container.unpause()
            done.append("thawed")
        if _state(container) == "exited":
            # It starts with a new network namespace: what lay in the old one is gone.
            container.start()
            done.append("started")
        else:
            done += packets.mend(settings, container)

    at_once(mend, found)
    packets.remove_helpers(settings, names)
    # Somebody may have pruned what had ended: the jobs too.
    wanted = names if nodes else (*names, *JOBS)
    gone = _create(settings, [name for name in wanted if name not in present])
    gone += rotation.restore(settings, stage) if not nodes else []
    done = [f"{name} is {what}" for name in found for what in said[name]] + gone
    if done:
        marks.put(settings, " ".join(["heal", *sorted(nodes)]), begun)
    return done


def daemon(node: str) -> str:
    """The process that does the node's work."""
    return DAEMONS[kind(node)]


def processes(container: Container) -> dict[str, list[int]]:
    """The processes below process 1 of a container: numbers by name. The first itself is protected by the kernel."""
    return descendants(exec_in(container, ["sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null; true"]) or "")


def descendants(statuses: str) -> dict[str, list[int]]:
    """The living children of process 1 and theirs, from /proc/*/status: numbers by name."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for status in re.split(r"^(?=Name:)", statuses, flags=re.MULTILINE)[1:]:
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        number = int(fields["Pid"])
        parents[number] = int(fields["PPid"])
        if not fields["State"].startswith("Z"):
            names[number] = fields["Name"].partition(":")[0]  # "nsd: server 1"

    def below_first(number: int) -> bool:
        return number != 1 and (parents.get(number, 0) == 1 or (number in parents and below_first(parents[number])))

    found: dict[str, list[int]] = {}
    for number, name in sorted(names.items()):
        if below_first(number):
            found.setdefault(name, []).append(number)
    return found
