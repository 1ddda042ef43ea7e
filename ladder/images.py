"""The images of a stage: base images pulled or made, the servers' own built on them."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import docker

from ladder import debian
from ladder.console import note, out
from ladder.engine import client, compose_command, explain
from ladder.errors import UserError
from ladder.settings import ROOT, Settings

LOG = ROOT / ".ladder/build.log"


def base_images() -> set[str]:
    """The images that our Dockerfiles begin with."""
    found = set()
    for dockerfile in ROOT.glob("*/Dockerfile"):
        found |= set(re.findall(r"^FROM (debian:\S+)", dockerfile.read_text(), re.MULTILINE))
    return found


def ensure_base_images() -> None:
    """Have every base image: here already, pulled, or made from Debian's packages where nothing can be pulled."""
    missing = [image for image in sorted(base_images()) if not _is_here(image)]
    unreachable = [image for image in missing if not _pull(image)]
    if unreachable:
        note(f"no image registry answers: making {' and '.join(unreachable)} from Debian's packages (about 30 s)")
        debian.prepare()
        with ThreadPoolExecutor() as pool:
            list(pool.map(debian.make_base_image, unreachable))


def build(settings: Settings, profile: str) -> None:
    """Build the stage's images; what hasn't changed costs a second or two.

    Raises:
        UserError: a build failed; the end of its output, and where the whole of it is.
    """
    LOG.parent.mkdir(exist_ok=True)
    done = subprocess.Popen(
        compose_command("--progress", "plain", "build"),
        cwd=ROOT,
        env=settings.environment(profile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    assert done.stdout is not None
    with out.status("reading the Dockerfiles") as status, LOG.open("w") as log:
        for line in done.stdout:
            log.write(line)
            log.flush()
            for step in steps(line):
                status.update(step)
                if not out.is_terminal:
                    note(step)
    if done.wait():
        where = LOG.relative_to(ROOT)
        raise UserError(explain("docker compose build", LOG.read_text()) + f"\nThe whole output is in {where}.")


def steps(line: str) -> Iterator[str]:
    """The step that a line of BuildKit's plain output announces, if it does: "app 3/7: RUN …"."""
    found = re.match(r"#\d+ \[(\S+) (?:\S+ )?(\d+/\d+)\] (RUN.*)", line)
    if found:
        service, count, command = found.groups()
        yield f"{service} {count}: {command[:70]}"


def _is_here(image: str) -> bool:
    try:
        client().images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def _pull(image: str) -> bool:
    note(f"pulling {image}")
    try:
        client().images.pull(image)
    except docker.errors.APIError:
        return False
    return True
