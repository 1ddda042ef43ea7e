"""A new version of the application: one server after the other is drained and replaced.

None is touched before one of the new version has shown that it becomes well; a version that doesn't is taken back. The
schema is changed first, and only in ways that the old version can live with (expand); what nobody needs any more goes
with a later version (contract): docs/decisions/deploy-in-place.md.
"""

from contextlib import suppress

import docker
from docker.models.containers import Container

from ladder import images, redundancy, rotation, stack
from ladder.console import note, step
from ladder.engine import client, compose, containers, exec_in
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import JOBS, Stage
from ladder.wait import wait_until

CREATE = ("up", "--detach", "--no-deps", "--no-build", "--pull", "never")
"""Create services, and nothing that they depend on."""
KINDS = ("web", "app")
"""What a version of the application is in; web servers first, for they have the files that new pages ask for."""
WELL_WITHIN = 30.0
"""Seconds until a new server is well; a usual one takes three."""
USED_WITHIN = 60.0
"""Seconds until everything is in use again."""
MIGRATED_WITHIN = 120.0
"""Seconds for the job; it takes two when the primary is there."""


def deploy(settings: Settings, stage: Stage) -> str:
    """Build the next version, try it, migrate, replace each server when the one before is in use again.

    Returns what was done, in words.

    Raises:
        UserError, KeyboardInterrupt: a step failed or was interrupted; every server runs the old version then, but for
            those that are named.
    """
    before, old = images.version(settings), images.ids(settings, KINDS)
    new = before + 1
    replaced: list[str] = []
    try:
        step(f"Building version {new}")
        images.build(settings, stage, *KINDS, app_version=new)
        now = images.ids(settings, KINDS)
        changed = [kind for kind in KINDS if now[kind] != old[kind]]
        servers = [node for kind in changed for node in stage.of(kind)]
        for kind in changed if stage.of("lb") else ():
            # The last, for the first may have an address that is its own.
            if len(stage.of(kind)) > 1:
                step(f"Trying version {new} as one more {kind} server")
                attempt(settings, stage.of(kind)[-1])
        step("Migrating")
        replace(settings, *JOBS)
        wait_until(lambda: migrated(settings), within=MIGRATED_WITHIN, what="the schema is up to date")
        for server in servers:
            step(f"Replacing {server}")
            replaced.append(server)
            roll(settings, stage, server)
    except (UserError, docker.errors.APIError, OSError, KeyboardInterrupt) as error:
        left = take_back(settings, stage, old, replaced)
        done = f"version {new} is taken back, all servers run version {before}"
        if left:
            done = f"version {new} is taken back but for {listed(list(left))} (see: make ps; then: make heal)"
        if isinstance(error, KeyboardInterrupt):
            note("\n".join([done, *left.values()]))
            raise
        raise UserError("\n".join([f"{done}: {error}", *left.values()])) from error
    return f"{listed(servers)} run{'s' if len(servers) == 1 else ''} version {new}"


def listed(names: list[str]) -> str:
    """For people."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def attempt(settings: Settings, like: str) -> None:
    """Have one more server like this one become well, which nobody asks, and remove it.

    Raises:
        UserError: it doesn't.
    """
    name = f"{settings.project}-{like}-trial"
    remove(name)
    try:
        # TRIAL: it has this one's name, and shall not tell what its own firewall dropped (firewall/firewall-count).
        compose(settings, "run", "--detach", "--no-deps", "--env", "TRIAL=yes", "--name", name, like)
        wait_for(client().containers.get(name), "one more server of it is well")
    finally:
        remove(name)


def remove(name: str) -> None:
    """Remove a container, if it is there."""
    for found in client().containers.list(all=True, filters={"name": f"^/{name}$"}):
        found.remove(force=True)


def roll(settings: Settings, stage: Stage, server: str) -> None:
    """Replace a server that has nothing under way, and wait until it is in use again.

    Raises:
        UserError: it doesn't become well.
    """
    rotation.out(settings, stage, server)
    renew(settings, stage, server)
    wait_until(
        redundancy.whole(settings, stage),
        within=USED_WITHIN,
        what=f"{server} is in use",
        hint=lambda: f"{redundancy.missing(settings, stage)}; see: make logs, make ps",
    )


def renew(settings: Settings, stage: Stage, server: str) -> None:
    """Give a server that is out of rotation a new container, and put it back when it is well.

    Raises:
        UserError: it doesn't become well.
    """
    replace(settings, server)
    wait_well(settings, server)
    rotation.back(settings, stage, server)


def wait_well(settings: Settings, server: str) -> None:
    """Wait until a server passes its own health check.

    Raises:
        UserError: it doesn't, with its last words.
    """
    wait_for(containers(settings)[server], f"{server} is well")


def wait_for(container: Container, what: str) -> None:
    """The same for any container."""
    check = redundancy.health_check(container)

    def well() -> bool:
        container.reload()
        if container.status == "exited":
            raise UserError(f"it ended:\n{stack.last_lines(container)}")
        return exec_in(container, check) is not None

    wait_until(well, within=WELL_WITHIN, what=what, hint=lambda: stack.last_lines(container))


def take_back(settings: Settings, stage: Stage, old: dict[str, str], replaced: list[str]) -> dict[str, str]:
    """Give the old images their names again, and the servers that were replaced the old version, one by one.

    Only each of them is waited for, and not the stage: somebody else may have died meanwhile, even of the new version.
    Returns those that it could not be given, with why.
    """
    step("Taking it back")
    images.name(settings, old)
    left: dict[str, str] = {}
    for server in reversed(replaced):
        step(f"Replacing {server}")
        try:
            with suppress(UserError):  # a server that can't be drained keeps the new version no longer for that
                rotation.out(settings, stage, server)
            renew(settings, stage, server)
        except (UserError, docker.errors.APIError, OSError) as error:
            left[server] = f"{server}: {error}"
    return left


def replace(settings: Settings, *services: str) -> None:
    """New containers of the same names, from the images as they are now."""
    compose(settings, *CREATE, "--force-recreate", *services)


def migrated(settings: Settings) -> bool:
    """The job has ended well."""
    present = containers(settings)
    stack.refuse_failed_jobs(present)
    return all(stack.is_ready(job, present.get(job)) for job in JOBS)
