"""A new version of the application, today's naive way: one application server after the other is replaced.

Nothing is drained: requests that a server has when it is replaced are its own affair, and those of its web server.
"""

from ladder import images, redundancy, stack
from ladder.console import step
from ladder.engine import compose, containers
from ladder.settings import Settings
from ladder.stages import JOBS, Stage
from ladder.wait import wait_until

CREATE = ("up", "--detach", "--no-deps", "--no-build", "--pull", "never")
"""Create services, and nothing that they depend on."""
WELL_WITHIN = 60.0
"""Seconds until a new application server is well and in use; a usual one takes five."""
MIGRATED_WITHIN = 120.0
"""Seconds for the job; it takes two when the primary is there."""


def deploy(settings: Settings, stage: Stage) -> str:
    """Build the next version, migrate, replace each server when the one before is in use again.

    Returns what was done, in words.

    Raises:
        UserError: a step failed; the servers not yet replaced run the old version.
    """
    servers = [node for node in stage.nodes if node.startswith("app")]
    version = images.version(settings) + 1
    step(f"Building version {version}")
    images.build(settings, stage, "app", app_version=version)
    step("Migrating")
    replace(settings, *JOBS)
    wait_until(lambda: migrated(settings), within=MIGRATED_WITHIN, what="the schema is up to date")
    for server in servers:
        step(f"Replacing {server}")
        replace(settings, server)
        wait_until(
            lambda: not redundancy.missing(settings, stage),
            within=WELL_WITHIN,
            what=f"{server} is well on version {version}",
            hint=lambda: f"{redundancy.missing(settings, stage)}; see: make logs, make ps",
        )
    return f"{' and '.join(servers)} run{'s' if len(servers) == 1 else ''} version {version}"


def replace(settings: Settings, *services: str) -> None:
    """New containers of the same names, from the images as they are now."""
    compose(settings, *CREATE, "--force-recreate", *services)


def migrated(settings: Settings) -> bool:
    """The job has ended well."""
    present = containers(settings)
    stack.refuse_failed_jobs(present)
    return all(stack.is_ready(job, present.get(job)) for job in JOBS)
