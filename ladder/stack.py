"""A stage, up and down."""

import http.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from docker.models.containers import Container

from ladder import (
    boards,
    certificates,
    credentials,
    doctor,
    door,
    images,
    packets,
    receiver,
    replication,
    rotation,
    servers,
)
from ladder.console import note, out, step
from ladder.engine import client, compose, containers, exec_in
from ladder.errors import UserError
from ladder.nodes import stage_in_force
from ladder.settings import Settings, keep
from ladder.stages import JOBS, STAGES, ZONES, Stage, is_database, stage_of
from ladder.wait import wait_until

START_WITHIN = 240.0
"""Deadline in seconds for a first start on a busy machine; a usual one takes a tenth of it."""

GRACE = 10
"""Seconds between the signal for a clean stop and SIGKILL, where a service says nothing else (Docker's default)."""
HEALTH_CHECKS = "/var/lib/firewall"
"""Where each server's health check leaves what it counted (firewall/firewall-count); one volume for all."""


def up(settings: Settings, stage: Stage) -> None:
    """Bring a stage up, from whatever state the machine and the project are in."""
    refuse_to_leave_the_primary(settings, stage)
    step("Is this machine ready?")
    settings = servers.settle(settings, stage)
    stage = stage.scaled(settings.web_servers, settings.app_servers)
    # Whether there will be a Grafana, and want a port, is known later.
    wrong = [finding for finding in doctor.examine(settings, stage.without("grafana")) if not finding.ok]
    refuse(doctor.mend(wrong, note))
    anew = credentials.ensure()
    secrets: dict[str, str] = {}
    if stage.monitored:
        settings, secrets = receiver.prepare(settings)
    certificates.check(settings)

    step("Images")
    images.ensure_base_images(settings, stage)
    settings = boards.settle(settings, stage)
    stage = stage.without(*settings.left_out)
    refuse([finding for finding in doctor.check_ports(settings, stage) if not finding.ok])
    images.build(settings, stage)
    if stage.monitored:
        boards.check(settings)

    step(f"Starting stage {stage.number}, {stage.title}")
    # Until here nothing was changed that a running server reads.
    for line in certificates.ensure(settings):
        note(line)
    if not door.secure(settings):
        certificates.mark_loaded()  # nobody serves another one: whoever will, starts with this
    before, settings = settings, replace(settings, profile=stage.profile)
    keep(settings, stage.profile)
    hand_over(settings, secrets)
    clear_the_way(settings, stage)
    if door.secure(before) and not certificates.loaded():
        # What runs already, and is not replaced, still serves the one before; or a command was interrupted here.
        certificates.load(settings, stage)
    # Compose does not see that a secret's file is another one, and a running server keeps the one it has.
    start(settings, stage, *(["--force-recreate"] if anew else []))
    rotation.restore(settings, stage)
    wait_for(settings, stage)


def refuse_to_leave_the_primary(settings: Settings, stage: Stage) -> None:
    """Raise UserError if the primary is a node that the stage hasn't: what is left would wait for it for ever."""
    for node, container in containers(settings).items():
        if node not in ZONES or not is_database(node) or node in stage.databases:
            continue
        if replication.role(container) == "primary":
            heir, *_ = stage.databases
            climb = (
                ""
                if settings.profile and stage_in_force(settings).promotes
                else f"make up STAGE={STAGES[-1].number}, then "
            )
            raise UserError(
                f"{node} is the primary, and stage {stage.number} has none of that name; nothing was changed. "
                f"Hand over to {heir} first: {climb}make promote NODE={heir}"
            )


def refuse(wrong: list[doctor.Finding]) -> None:
    """Raise UserError with what is wrong with the machine, if anything is."""
    if wrong:
        raise UserError("this machine is not ready:\n" + "\n".join(f"  {f.what}: {f.mend}" for f in wrong))


def hand_over(settings: Settings, secrets: Mapping[str, str]) -> None:
    """Put secrets of the user's own where servers find them.

    The collector reads the receiver's URL when it starts, and Compose doesn't see that it is another: it is made anew.
    """
    collector = containers(settings).get("prometheus")
    for name, text in secrets.items():
        # The collector first: interrupted in between, the next command still finds another URL.
        if collector and name == credentials.RECEIVER_URL and credentials.stored(name) != text:
            remove(collector)
        credentials.store(name, text)


def remove_half_made(settings: Settings) -> None:
    """Remove what was created and never started, by a command that was interrupted.

    Compose creates a container with its first network and connects it to the others afterwards; one that lacks some it
    would start as it is.
    """
    for container in containers(settings).values():
        if container.status == "created":
            container.remove(force=True)


def clear_the_way(settings: Settings, stage: Stage) -> None:
    """Undo faults, and remove what belongs to another stage or is half made: Compose would leave them as they are."""
    remove_half_made(settings)
    present = containers(settings)
    leftovers = [node for node in present if node not in (*stage.nodes, *JOBS)]
    for container in present.values():
        if container.status == "paused":
            container.unpause()
    # By what they were: the frozen ones are thawed now.
    running = [present[n] for n in stage.nodes if n in present and present[n].status in ("running", "paused")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda container: packets.mend(settings, container), running))
    packets.remove_helpers(settings)
    if leftovers:
        note("not on this stage, stopping: " + " ".join(leftovers))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: remove(present[node]), leftovers))
        forget(running, leftovers)


def remove(container: Container) -> None:
    """Stop a container as its service says, and remove it; Compose would only do so where it is in a file."""
    container.stop(timeout=grace(container))
    container.remove(force=True)


def grace(container: Container) -> int:
    """Seconds that a container may take for a clean stop."""
    return int(container.attrs["Config"].get("StopTimeout") or GRACE)


def forget(running: Sequence[Container], gone: Sequence[str]) -> None:
    """Nobody is to be missed who was taken away: the last words of its health check go too."""
    files = [f"{HEALTH_CHECKS}/{node}.prom" for node in gone]
    for container in running:
        if any(mount["Destination"] == HEALTH_CHECKS for mount in container.attrs["Mounts"]):
            exec_in(container, ["rm", "-f", *files], user="root")
            return


def start(settings: Settings, stage: Stage, *words: str) -> None:
    """Create and start the stage's containers."""
    compose(settings, "up", "--detach", "--no-build", "--pull", "never", *words, profile=stage.profile)


def wait_for(settings: Settings, stage: Stage) -> None:
    """Wait until every node is healthy, the jobs have ended well and the front page comes from a database."""
    with out.status("") as status:

        def ready() -> bool:
            present = containers(settings)
            refuse_failed_jobs(present)
            waiting = [node for node in (*stage.nodes, *JOBS) if not is_ready(node, present.get(node))]
            status.update("waiting for " + " ".join(waiting or ["the first page"]))
            if ended := [node for node in waiting if node in present and present[node].status == "exited"]:
                raise UserError("\n".join(f"{node} ended; see: make ps\n{last_lines(present[node])}" for node in ended))
            if waiting == [*JOBS]:
                refuse_to_wait_for_the_primary(stage, present)
            return not waiting and answers(settings)

        def state() -> str:
            present = containers(settings)
            slow = [node for node in stage.nodes if not is_ready(node, present.get(node))]
            said = [f"{node}:\n{last_lines(present[node])}" for node in slow if node in present]
            return "\n".join([*said, f"Look further: make ps, make logs; then again: make up STAGE={stage.number}"])

        wait_until(ready, within=START_WITHIN, what=f"stage {stage.number} answers", every=0.5, hint=state)


def refuse_to_wait_for_the_primary(stage: Stage, present: Mapping[str, Container]) -> None:
    """Raises UserError if the primary is a node that the stage hasn't, and nobody could tell before: it was down."""
    for node in stage.databases:
        found = replication.ask(present[node])
        if found and found.source and found.source not in stage.databases:
            raise UserError(
                f"{node} is a copy of {found.source}, which stage {stage.number} hasn't; nothing is lost. Hand over to "
                f"{node} first: make up STAGE={STAGES[-1].number}, then make promote NODE={node}"
            )


def refuse_failed_jobs(present: Mapping[str, Container]) -> None:
    """Raises UserError with a job's last words if it failed."""
    for job in (job for job in JOBS if job in present):
        state = present[job].attrs["State"]
        if state["Status"] == "exited" and state["ExitCode"]:
            raise UserError(f"the job {job} failed; mend that, then again: make up STAGE=…\n{last_lines(present[job])}")


def is_ready(node: str, container: Container | None) -> bool:
    """A node is healthy; a job has ended well."""
    if container is None:
        return False
    state = container.attrs["State"]
    if node in JOBS:
        return bool(state["Status"] == "exited" and state["ExitCode"] == 0)
    return bool(state["Status"] == "running" and state.get("Health", {}).get("Status") == "healthy")


def answers(settings: Settings) -> bool:
    """The front page comes, through the published address."""
    connection = door.connect(settings, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": door.HOST})
        return connection.getresponse().status == 200
    except (http.client.HTTPException, OSError):
        return False
    finally:
        connection.close()


def last_lines(container: Container) -> str:
    """The last words of a container, indented."""
    return "\n".join(f"  {line}" for line in container.logs(tail=12).decode(errors="replace").splitlines())


def down(settings: Settings, *, wipe: bool = False) -> None:
    """Remove the containers and networks of every stage; with `wipe`, the data as well."""
    for container in containers(settings).values():
        if container.status == "paused":
            container.unpause()
    packets.remove_helpers(settings)
    credentials.ensure()
    settings = servers.settle(settings, stage_of(settings.profile) if settings.profile else STAGES[0])
    words = ["down", "--remove-orphans", *(["--volumes"] if wipe else [])]
    try:
        compose(settings, *words, profile=settings.profile or STAGES[0].profile, every_profile=True)
    except UserError as error:
        ours = {"label": f"com.docker.compose.project={settings.project}"}
        networks = client().networks.list(filters=ours, greedy=True)
        if "has active endpoints" not in str(error) or any(network.attrs["Containers"] for network in networks):
            raise
        # An engine (20.10, now and then, when many leave a network at once) counts somebody who is gone.
        for volume in client().volumes.list(filters=ours) if wipe else ():
            volume.remove()
        note("the engine takes an empty network for used, and keeps it until it starts anew; no harm is done")
