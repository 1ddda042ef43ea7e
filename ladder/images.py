"""The images of a stage: base images pulled or made, the servers' own built on them."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import docker

from ladder import credentials, debian, firewall, rungs
from ladder.console import note, out
from ladder.engine import client, compose_command, explain
from ladder.errors import UserError
from ladder.settings import ROOT, Settings
from ladder.stages import Stage


def base_images(dockerfiles: Iterable[Path]) -> set[str]:
    """The images that our Dockerfiles begin with, or take a maker's program from."""
    found = set()
    for dockerfile in dockerfiles:
        found |= set(re.findall(r"^(?:FROM |COPY --from=)([\w./-]+:\S+)", dockerfile.read_text(), re.MULTILINE))
    return found - {grafana_image()}


def grafana_image() -> str:
    """The one image that a stage does without where it can't be had (boards.py)."""
    found = re.search(r"^COPY --from=(\S+)", (ROOT / "grafana/Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def ensure_base_images(settings: Settings, stage: Stage) -> None:
    """Have a stage's base images: here already, pulled, or made from Debian's packages where nothing can be pulled."""
    builds = [service["build"] for service in rungs.render(settings, stage)["services"].values()]
    wanted = base_images(Path(build["context"], build["dockerfile"]) for build in builds)
    missing = [image for image in sorted(wanted) if not is_here(image)]
    unreachable = [image for image in missing if not pull(image)]
    if unreachable:
        note(f"no image registry answers: making {' and '.join(unreachable)} from Debian's packages (about 30 s)")
        debian.prepare()
        debian.make_images(unreachable)


def version(settings: Settings) -> int:
    """The version of the application that its image holds; the image remembers, nothing else does."""
    try:
        image = client().images.get(f"{settings.project}/app")
    except docker.errors.ImageNotFound:
        return 1
    values = dict(value.split("=", 1) for value in image.attrs["Config"]["Env"])
    return int(values.get("APP_VERSION", "1"))


def ids(settings: Settings, kinds: Sequence[str]) -> dict[str, str]:
    """The images that servers of these kinds are made from now."""
    return {kind: str(client().images.get(f"{settings.project}/{kind}").id) for kind in kinds}


def name(settings: Settings, images: Mapping[str, str]) -> None:
    """Have servers of these kinds be made from these images."""
    for kind, image in images.items():
        client().images.get(image).tag(f"{settings.project}/{kind}")


def build(settings: Settings, stage: Stage, *only: str, app_version: int | None = None) -> None:
    """Build the stage's images, or only some of them ("app"); what hasn't changed costs a second or two.

    The application gets this version; by default it keeps its own.

    Raises:
        UserError: a build failed; the end of its output, and where the whole of it is. Or a rule of the firewall is
            wrong: an image with it would be no server, so that none is built once there is an nft to ask.
    """
    edge = client().images.list(filters={"reference": f"{settings.project}/edge"})
    if edge:
        firewall.check(settings, policies=stage.firewalls)
    whole = settings.scratch("build.log")
    # Servers of a kind share an image: building it for one of them will do. Always for the first, whose name is in a
    # label of the image: for another it would be another image, and `up` would replace every server of the kind.
    services: dict[str, str] = {}
    for name, service in rungs.render(settings, stage)["services"].items():
        services.setdefault(service["image"], name)
    if only:
        services = {image: name for image, name in services.items() if image.rpartition("/")[2] in only}
    argument = f"APP_VERSION={app_version or version(settings)}"
    done = subprocess.Popen(
        compose_command("--progress", "plain", "build", "--build-arg", argument, *services.values()),
        cwd=ROOT,
        env=settings.environment(stage.profile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    assert done.stdout is not None
    news = News()
    with out.status("reading the Dockerfiles") as status, whole.open("w") as log:
        for line in done.stdout:
            log.write(line)
            log.flush()
            if step := news.of(line):
                status.update(step)
                if not out.is_terminal:
                    note(step)
    if done.wait():
        if wrong := complaint(whole.read_text()):
            raise UserError(wrong)
        said = explain("docker compose build", whole.read_text())
        raise UserError(f"{said}\nThe whole output is in {whole.relative_to(ROOT)}")
    if not edge:
        firewall.check(settings, policies=stage.firewalls)


FILE = re.compile(r"/etc/(?:prometheus|alertmanager)/([\w-]+\.yml)")


def complaint(output: str) -> str:
    """Which file of prometheus/ is wrong, and why, from BuildKit's plain output: its images ask promtool and its like.

    "" if the build failed for another reason.
    """
    failed = re.search(r"^#(\d+) ERROR: (.*)", output, re.MULTILINE)
    if not failed:
        return ""
    said = "\n".join(re.findall(rf"^#{failed[1]} \d+\.\d+ ?(.*)", output, re.MULTILINE))
    if "FAILED:" in said:  # promtool, amtool
        before, _, after = said.partition("FAILED:")
        why = after.strip().partition("\n\n")[0]
    else:  # blackbox_exporter, which names no file
        before, why = failed[2], "".join(re.findall(r'level=ERROR .*err="(.*)"', said)).replace("\\n", " ")
    named = FILE.findall(why)[:1] or FILE.findall(before)[-1:]
    if not (named and why):
        return ""
    lines = [line for line in FILE.sub("", why).splitlines() if not line.startswith("amtool: error")]
    reason = " ".join(" ".join(lines).split()).removeprefix(": ").replace("parsing YAML file : ", "")
    return f"prometheus/{named[0]} is wrong; nothing was changed: {reason}"


def build_one(settings: Settings, name: str, folder: str) -> str:
    """Build an image outside the stages (a load, a browser) and return its tag."""
    tag = f"{settings.project}/{name}"
    secret = f"--secret=id=host_ca,src={credentials.FOLDER / 'host_ca'}"
    command = ["docker", "buildx", "build", "--load", secret, "--tag", tag, str(ROOT / folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(explain(f"docker build {folder}", done.stdout + done.stderr))
    return tag


def forget(settings: Settings) -> None:
    """Remove the names of the project's own images; layers that another project shares stay."""
    for image in client().images.list(filters={"reference": f"{settings.project}/*"}):
        for tag in image.tags:
            if tag.startswith(f"{settings.project}/"):
                client().images.remove(tag, force=True)


class News:
    """What is worth telling of BuildKit's plain output: each step that really runs, once."""

    def __init__(self) -> None:
        self._steps: dict[str, str] = {}

    def of(self, line: str) -> str:
        """The step that begins to work with this line ("app1 3/7: RUN …"), or ""."""
        if found := re.match(r"#(\d+) \[(\S+) (?:\S+ )?(\d+/\d+)\] (RUN.*)", line):
            number, service, count, command = found.groups()
            # It is printed again whenever BuildKit turns back to it.
            self._steps.setdefault(number, f"{service} {count}: {' '.join(command.split())[:70]}")
        elif found := re.match(r"#(\d+) \d+\.\d+ ", line):  # output: it isn't taken from the cache
            step, self._steps[found[1]] = self._steps.get(found[1], ""), ""
            return step
        return ""


def is_here(image: str) -> bool:
    """The engine has it."""
    try:
        client().images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def pull(image: str) -> bool:
    """Have the engine fetch it; False if it can't."""
    with out.status(f"pulling {image}"):
        try:
            client().images.pull(image)
        except docker.errors.APIError:
            return False
    note(f"pulled {image}")
    return True
