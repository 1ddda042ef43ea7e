"""Promotion: a replica becomes the primary, by a person's word. The old one is fenced first, in whatever state it is.

Here is who to ask, in which order, and when to refuse; the nodes do the acting, by an order on the volume of each
(mysql/node/orders.py). Read next: docs/decisions/promotion-by-a-person.md.
"""

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from ladder import replication
from ladder.engine import client, containers, exec_in
from ladder.errors import UserError
from ladder.nodes import demand, meant, stage_in_force
from ladder.settings import Settings
from ladder.stages import Stage, is_database

CLOSES_WITHIN = 8
"""Seconds for a primary to close and end what is under way; one that can't is killed."""
ARRIVES_WITHIN = 1.5
"""Seconds for what a primary that is cut off had sent; what isn't there by then is brought over."""
TAKES_OVER_WITHIN = 30
"""Seconds for the candidate to have everything, and to open; a healthy one takes a third of one."""
BROUGHT_WITHIN = 60
"""Seconds for what is brought over to be read from one database, or written to the other."""
ENGINE_WITHIN = 5
"""Seconds more for the engine, to start a command in a container; one that is frozen meanwhile never answers."""
VOLUME, OWNER = "/var/lib/mysql", 999
"""Where a database's disk is in its container, and whose it is (mysql/Dockerfile)."""
TELL = ("as-server", "tell")
OBEY = ("well", "cut off")
"""The states in which a database does what it is told, and says what it has."""


@dataclass(frozen=True)
class Database:
    """One node of the tier as it is found."""

    name: str
    container: Container | None
    answers: replication.Database | None
    reached: bool
    """An application server reaches it."""
    term: int = 0
    """The number of the last promotion that was ordered here, carried out or not."""
    leader: str = ""
    """Whom it named."""

    @property
    def state(self) -> str:
        """In a word: well, cut off, frozen, silent, dead or gone."""
        if self.container is None:
            return "gone"
        if self.container.status == "paused":
            return "frozen"
        if self.container.status != "running":
            return "dead"
        if self.answers is None:
            return "silent"
        return "well" if self.reached else "cut off"


def promote(settings: Settings, wanted: str = "", *, force: bool = False) -> Iterator[str]:
    """Make a replica the primary; each step as it is done, with its time in seconds.

    Raises:
        UserError: it makes no sense here and now, or may lose what was acknowledged, and nothing was changed; or a step
            failed, and it says what is so now.
    """
    begun = time.monotonic()

    def at(text: str) -> str:
        return f"{time.monotonic() - begun:5.2f} s  {text}"

    stage = stage_in_force(settings)
    demand(stage, "promotes")
    tier = look(settings, stage)
    chosen = tier[choose(settings, stage, tier, wanted)]
    others = [node for node in tier.values() if node is not chosen]
    check(settings, chosen, others)
    risks = [risk for node in others if (risk := at_risk(settings, node))]
    if not any(node.state in OBEY for node in others):
        risks += filter(None, [forgotten(chosen)])
    if risks and not force:
        raise UserError("\n".join([*risks, "Nothing was changed. To go on all the same: make promote FORCE=1"]))
    yield from (at(f"forced: {risk}") for risk in risks)
    term = 1 + max(max(node.term, node.answers.term if node.answers else 0) for node in tier.values())
    yield at(f"{chosen.name} is fit to lead; promotion {term}")

    held = time.monotonic()
    try:
        for said in hand_over(settings, chosen, others, term, force=force):
            yield at(said)
    except UserError:
        raise
    except BaseException as error:  # from the first fence on nobody leads: it is not left at that
        now = go_back(settings, chosen, others, term + 1)
        if isinstance(error, (KeyboardInterrupt, docker.errors.DockerException, OSError)):
            raise UserError(f"{str(error) or 'interrupted'}. {now}") from error
        error.add_note(now)
        raise
    seconds = time.monotonic() - held
    yield at(f"{chosen.name} has everything that it can have, and is the primary; nobody was it for {seconds:.2f} s")
    for node in others:
        if node.state not in ("well", "gone"):
            yield at(f"{node.name} follows it when it is back: make heal NODE={node.name}")


def hand_over(settings: Settings, chosen: Database, others: list[Database], term: int, *, force: bool) -> Iterator[str]:
    """From the first fence until the candidate leads."""
    order, after, apart = f"{chosen.name} {term}", "", []
    for node in others:
        try:
            had, said = fence(node, order)
        except UserError as error:
            if not force:
                raise UserError(f"{error}. {go_back(settings, chosen, others, term + 1)}") from error
            had, said = "", f"forced: {error}. Should it accept writes, they are lost when it hears of this promotion"
        yield said
        # Who did not obey may have been alone after all, and its disk says so now that it is dead.
        if not had and not force and (risks := [*filter(None, (at_risk(settings, node), forgotten(chosen)))]):
            on = f"{node.name} did not obey, and is down. To go on without it: make promote FORCE=1"
            raise UserError("\n".join([*risks, on]))
        if had and node.state == "cut off":
            apart.append((node, had))
        after = ",".join(filter(None, (after, had)))
    for node, had in apart:
        missing = waits_for(chosen, had)
        if missing is None:
            silent = f"{chosen.name} does not say what it has got from {node.name}"
            raise UserError(f"{silent}. {go_back(settings, chosen, others, term + 1)}")
        if missing:
            bring_over(node, chosen, missing)
            yield f"what {chosen.name} did not get from {node.name} is brought over: {missing}"
    if tell(chosen, "order", str(TAKES_OVER_WITHIN), order, *filter(None, [after])) is None:
        late = f"{chosen.name} did not take over in {TAKES_OVER_WITHIN} s; see: make logs NODE={chosen.name}"
        raise UserError(f"{late}. {go_back(settings, chosen, others, term + 1)}")


def look(settings: Settings, stage: Stage) -> dict[str, Database]:
    """Every database of the stage, all asked at once."""
    present = containers(settings)
    servers = [c for name, c in present.items() if name.startswith("app") and c.status == "running"]
    # Whoever is dead is known to be, and would have to be waited for.
    alive = tuple(node for node in stage.databases if node in present and present[node].status == "running")
    with ThreadPoolExecutor() as pool:
        views = [pool.submit(reached_by, server, alive) for server in servers]
        asked = {node: pool.submit(replication.ask, present[node]) for node in stage.databases if node in present}
        heard = {node: pool.submit(last_order, present[node]) for node in stage.databases if node in present}
        # Where no application runs, nobody is cut off from it.
        reached = set().union(*(view.result() for view in views)) if servers else {*stage.databases}
        return {
            node: Database(
                node,
                present.get(node),
                asked[node].result() if node in asked else None,
                node in reached,
                *(heard[node].result() if node in heard else (0, "")),
            )
            for node in stage.databases
        }


def reached_by(server: Container, nodes: tuple[str, ...]) -> set[str]:
    """The databases that an application server can connect to. Busy is not cut off: each is tried twice, for 1 s."""
    reach = 'timeout 1 bash -c "exec 3<>/dev/tcp/$node/3306" 2>&-'
    ask = f'for node in "$@"; do {{ {reach} || {reach}; }} && echo $node & done; wait'
    return set((exec_in(server, ["bash", "-c", ask, "bash", *nodes], timeout=2 * 1 + ENGINE_WITHIN) or "").split())


def last_order(container: Container) -> tuple[int, str]:
    """The last promotion that was ordered on a node's disk, and whom it names; its order stands, or stood there."""
    found = [(0, "")]
    for name in ("order", "order.last"):
        try:
            leader, term, *_ = (kept(container, name) or "").split()
            found.append((int(term), leader))
        except (ValueError, docker.errors.APIError):  # there is none, or half of one
            continue
    return max(found)


def kept(container: Container, name: str) -> str | None:
    """A file on a database's disk, whatever state it is in; None when there is none."""
    try:
        chunks, _ = container.get_archive(f"{VOLUME}/{name}")
    except docker.errors.NotFound:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile(name)
        return file.read().decode(errors="replace") if file else None


def choose(settings: Settings, stage: Stage, tier: Mapping[str, Database], wanted: str) -> str:
    """The candidate.

    Raises:
        UserError: there is none, or it can't be told who is meant.
    """
    if wanted:
        names = meant(settings, wanted)
        if len(names) != 1 or not is_database(names[0]):
            raise UserError(f"{wanted} is no database; these are: {', '.join(stage.databases)}")
        return names[0]
    replicas = [node.name for node in tier.values() if node.answers and node.answers.role == "replica"]
    if not replicas:
        raise UserError("no replica answers that could be promoted; see: make replication")
    term, leader = max((node.term, node.leader) for node in tier.values())
    if leader in replicas and len({node.leader for node in tier.values() if node.term == term}) == 1:
        return leader  # of a promotion that was interrupted
    if len(replicas) > 1:
        raise UserError(f"which one? Say NODE=…: {', '.join(replicas)}")
    return replicas[0]


def check(settings: Settings, chosen: Database, others: list[Database]) -> None:
    """Refuse a candidate that can't lead, or shouldn't, before anything is touched."""
    name, it = chosen.name, chosen.answers
    if it is None:
        raise UserError(f"{name} does not answer (it is {chosen.state}), so that it can't lead; see: make ps")
    if it.writable:
        raise UserError(f"{name} is the primary already; see: make replication")
    if not chosen.reached:
        raise UserError(f"no application server reaches {name}: it is cut off; mend that first: make heal NODE={name}")
    if it.cloning:
        raise UserError(f"{name} is being filled anew with the data of another; wait for it: make logs NODE={name}")
    if not it.source:
        raise UserError(f"{name} is no replica and waits: make logs NODE={name} says for what")
    if not it.applying:
        raise UserError(
            f"the replication of {name} is broken: {it.trouble or 'it does not apply'}; see: make replication"
        )
    for node in others:
        if node.state != "well" or not node.answers or not node.answers.writable:
            continue
        if it.source != node.name or not it.receiving:
            raise UserError(f"{name} does not receive from {node.name}, which is well; see: make replication")
        behind, most = it.seconds_behind, settings.db_max_lag_seconds
        if behind is None or behind > most:
            how = "nobody knows how far" if behind is None else f"{behind} s"
            raise UserError(f"{name} is behind {node.name}, {how}; at most {most} s are let pass (DB_MAX_LAG_SECONDS)")


def at_risk(settings: Settings, node: Database) -> str:
    """What a promotion may lose that this node alone had; "" when nothing that it acknowledged.

    One that does as it is told says what it has. Of one that doesn't, its disk tells whether it was alone.
    """
    if node.state in OBEY:
        return ""
    if node.container is None:
        if has_disk(settings, node.name):
            # The engine reaches a disk by its container alone: no order can be left there.
            return (
                f"{node.name} has no container, and its disk is still there: no order can be left on it. Made again "
                f"when it can't see the others, it would lead, with what it alone has. Make it first: make heal"
            )
        return f"{node.name} and its disk are gone, and with them what no replica has"
    try:
        since = kept(node.container, "alone")
    except docker.errors.APIError as error:
        return f"the disk of {node.name} can't be read, to know whether a replica has everything: {error.explanation}"
    if since is None:
        return ""
    return (
        f"{node.name} was alone since {since.strip()}: what it acknowledged then, no replica has. To have it, bring it "
        f"back instead: make heal NODE={node.name}"
    )


def forgotten(chosen: Database) -> str:
    """What a candidate may have lost itself, when nobody else can be asked; "" when nothing.

    A replica that starts throws away what it had received and not executed (relay_log_recovery in mysql/my.cnf), though
    it had confirmed it, and hears of it again by its primary only.
    """
    assert chosen.container
    try:
        since = kept(chosen.container, "behind")
    except docker.errors.APIError as error:
        return f"the disk of {chosen.name} can't be read, to know whether it has everything: {error.explanation}"
    if since is None:
        return ""
    return (
        f"{chosen.name} was started at {since.strip()}, and has not had everything from a primary since: what it had "
        f"confirmed and not executed by then, it has no more. Bring the other one back first: make heal"
    )


def has_disk(settings: Settings, node: str) -> bool:
    """Its volume is there."""
    try:
        client().volumes.get(f"{settings.project}_{node}")
    except docker.errors.NotFound:
        return False
    return True


def fence(node: Database, order: str) -> tuple[str, str]:
    """Make sure that a node accepts no write, now or when it is back. Its transactions, as far as known; what was done.

    One that answers is told, and closes; also one that is cut off, for its console is not. Whoever does not obey is
    killed, the frozen one before it can thaw, and finds the order on its disk when it starts.

    Raises:
        UserError: it can't be fenced.
    """
    had = tell(node, "order", str(CLOSES_WITHIN), order) if node.answers else None
    if had is not None:
        return had, f"{node.name} ({node.state}) is closed for writing, and follows {order.split()[0]}"
    if node.container is None:
        return "", f"{node.name} has no container: there is nothing to fence, and its disk, if it has one, has no order"
    said = f"{node.name} ({node.state})"
    try:
        node.container.reload()
        if node.container.status not in ("exited", "created"):
            node.container.kill(signal="SIGKILL")
            said += " is killed, and"
            node.container.wait(timeout=10)
            node.container.reload()  # from now on its state is dead, and its disk is asked
        mark(node.container, order)
    except (docker.errors.APIError, OSError) as error:
        raise UserError(f"{said} can't be fenced: {error}; make promote FORCE=1 goes on without") from error
    return "", f"{said} finds on its disk that {order.split()[0]} leads"


def mark(container: Container, order: str) -> None:
    """Leave an order on the disk of a node that does not run."""
    text = f"{order}\n".encode()
    entry = tarfile.TarInfo("order")
    entry.size, entry.uid, entry.gid, entry.mtime = len(text), OWNER, OWNER, int(time.time())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(text))
    container.put_archive(VOLUME, packed.getvalue())


def tell(node: Database, *words: str) -> str | None:
    """What a node answers, by the command inside it; None when it doesn't, or not in time."""
    assert node.container
    limit = ENGINE_WITHIN + (float(words[1]) if words[0] == "order" else 0)
    said = exec_in(node.container, [*TELL, *(part for word in words for part in word.split())], timeout=limit)
    return None if said is None else "".join(said.split())


def waits_for(chosen: Database, had: str) -> str | None:
    """Those of another's transactions that have not arrived in time; None if the candidate doesn't say."""
    assert chosen.container
    deadline = time.monotonic() + ARRIVES_WITHIN
    while True:
        ask = ["mysql", "-NBe", f"SELECT GTID_SUBTRACT('{had}', @@gtid_executed)"]
        said = exec_in(chosen.container, ask, timeout=ENGINE_WITHIN)
        missing = None if said is None else "".join(said.replace(r"\n", "").split())
        if missing == "" or time.monotonic() > deadline:
            return missing
        time.sleep(0.1)


def bring_over(node: Database, chosen: Database, missing: str) -> None:
    """From the log of one that is cut off to the candidate, which executes it before it leads."""
    assert node.container
    assert chosen.container
    source = ["docker", "exec", str(node.container.id), *TELL, "dump", missing]
    target = ["docker", "exec", "--interactive", str(chosen.container.id), *TELL, "rescue"]
    limit = BROUGHT_WITHIN + ENGINE_WITHIN
    try:
        dumped = subprocess.run(source, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, check=True)
        subprocess.run(target, input=dumped.stdout, capture_output=True, timeout=limit, check=True)
    except subprocess.SubprocessError as error:
        raise UserError(
            f"{node.name} is closed, and what {chosen.name} lacks could not be brought over: {missing}. Connect "
            f"{node.name} again, then promote again: make heal NODE={node.name}"
        ) from error


def go_back(settings: Settings, chosen: Database, others: list[Database], term: int) -> str:
    """The candidate did not take over: who led leads on, if it can be told. What is so now, in words.

    Not before the candidate is fenced: dead or late, it may have its order still, and would open beside the other.
    """
    nobody = "No node is the primary; promote again, or bring the old one back and promote that"
    led = [node for node in others if node.state == "well" and node.answers and node.answers.writable]
    if not led:
        for node in (chosen, *others):  # one that could not be fenced may have heard of its order
            if node.answers:
                tell(node, "withdraw")
        alive = any(node.state not in ("dead", "gone") for node in others)
        return "Nobody was promoted; who leads now, says: make replication" if alive else nobody
    order = f"{led[0].name} {term}"
    try:
        had, said = fence(chosen, order)
    except UserError as error:
        return f"{error}. {nobody}"
    # It may have opened before it died.
    if not had and (risk := at_risk(settings, chosen)):
        return f"{said}. {risk}. {nobody}"
    back = tell(led[0], "order", str(TAKES_OVER_WITHIN), order, *filter(None, [had]))
    return f"{said}. {nobody}" if back is None else f"{led[0].name} is the primary again"
