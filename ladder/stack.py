"""A stage, up and down."""

import http.client
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from docker.models.containers import Container

from ladder import credentials, doctor, images, packets
from ladder.console import note, out, step
from ladder.engine import compose, compose_command, containers, explain
from ladder.errors import UserError
from ladder.settings import ROOT, Settings, keep
from ladder.stages import JOBS, STAGES, Stage
from ladder.wait import wait_until

START_WITHIN = 240.0
"""Deadline in seconds for a first start on a busy machine; a usual one takes a tenth of it."""


def up(settings: Settings, stage: Stage) -> None:
    """Bring a stage up, from whatever state the machine and the project are in."""
    step("Is this machine ready?")
    wrong = doctor.mend([finding for finding in doctor.examine(settings) if not finding.ok], note)
    if wrong:
        raise UserError("this machine is not ready:\n" + "\n".join(f"  {f.what}: {f.mend}" for f in wrong))
    credentials.ensure()

    step("Images")
    images.ensure_base_images()
    images.build(settings, stage)

    step(f"Starting stage {stage.number}, {stage.title}")
    keep(settings, stage.profile)
    clear_the_way(settings, stage)
    start(settings, stage)
    wait_for(settings, stage)


def clear_the_way(settings: Settings, stage: Stage) -> None:
    """Undo faults, and remove what belongs to another stage: Compose would leave both as they are."""
    present = containers(settings)
    leftovers = [node for node in present if node not in (*stage.nodes, *JOBS)]
    for container in present.values():
        if container.status == "paused":
            container.unpause()
    running = [present[node] for node in stage.nodes if node in present and present[node].status == "running"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda container: packets.mend(settings, container), running))
    packets.remove_helpers(settings)
    if leftovers:
        note("not on this stage, stopping: " + " ".join(leftovers))
        compose(settings, "rm", "--stop", "--force", *leftovers, profile=stage.profile, every_profile=True)


def start(settings: Settings, stage: Stage) -> None:
    """Create and start the stage's containers."""
    done = subprocess.run(
        compose_command("up", "--detach", "--no-build", "--pull", "never"),
        cwd=ROOT,
        env=settings.environment(stage.profile),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(explain("docker compose up", done.stdout + done.stderr))


def wait_for(settings: Settings, stage: Stage) -> None:
    """Wait until every node is healthy, the jobs have ended well and the front page comes from a database."""
    with out.status("") as status:

        def ready() -> bool:
            present = containers(settings)
            refuse_failed_jobs(present)
            waiting = [node for node in (*stage.nodes, *JOBS) if not is_ready(node, present.get(node))]
            status.update("waiting for " + " ".join(waiting or ["the first page"]))
            if ended := [node for node in waiting if node in present and present[node].status == "exited"]:
                raise UserError("\n".join(f"{node} ended:\n{last_lines(present[node])}" for node in ended))
            return not waiting and answers(settings)

        def state() -> str:
            present = containers(settings)
            slow = [node for node in stage.nodes if not is_ready(node, present.get(node))]
            said = [f"{node}:\n{last_lines(present[node])}" for node in slow if node in present]
            return "\n".join([*said, f"Look further: make ps, make logs; then again: make up STAGE={stage.number}"])

        wait_until(ready, within=START_WITHIN, what=f"stage {stage.number} answers", every=0.5, hint=state)


def refuse_failed_jobs(present: Mapping[str, Container]) -> None:
    """Raises UserError with a job's last words if it failed."""
    for job in JOBS:
        state = present[job].attrs["State"]
        if state["Status"] == "exited" and state["ExitCode"]:
            raise UserError(f"the job {job} failed:\n{last_lines(present[job])}")


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
    connection = http.client.HTTPConnection(settings.address, settings.http_port, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": "www.foobar.com"})
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
    words = ["down", "--remove-orphans", *(["--volumes"] if wipe else [])]
    compose(settings, *words, profile=settings.profile or STAGES[0].profile, every_profile=True)
