"""Docker: the engine through its SDK, Compose through its command line.

Compose is run by `compose`, a command in a container by `exec_in`.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache

import docker
from docker.models.containers import Container
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnectionPool
from docker.utils import kwargs_from_env

from ladder.errors import UserError
from ladder.settings import ROOT, Settings


class OnePool(UnixHTTPAdapter):
    """One pool of connections for the whole engine, as the SDK has over TCP.

    Its own for a Unix socket has a pool for each path of the API, and beyond 25 closes the oldest even while another
    thread asks through it: what a stage's containers, asked side by side, exceed.
    """

    def get_connection(self, url: str | bytes, proxies: Mapping[str, str] | None = None) -> UnixHTTPConnectionPool:
        """The pool, whatever the path."""
        return super().get_connection("the engine", proxies)


@cache
def client() -> docker.DockerClient:
    """The engine that the docker command speaks to, whichever of its contexts is in use.

    Raises:
        UserError: it does not answer, with what to do.
    """
    ask = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        context = subprocess.run(ask, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        install = "https://docs.docker.com/engine/install/"
        raise UserError(f"the `docker` command is missing; install Docker: {install}") from error
    try:
        host = os.environ.get("DOCKER_HOST") or context.stdout.strip() or None
        given = kwargs_from_env(environment=os.environ | ({"DOCKER_HOST": host} if host else {}))
        found = docker.DockerClient(timeout=120, **given)
        adapter = found.api.get_adapter(found.api.base_url)
        if isinstance(adapter, UnixHTTPAdapter):
            found.api.mount(found.api.base_url, OnePool(adapter.socket_path, timeout=120, max_pool_size=100))
        found.ping()
    except docker.errors.DockerException as error:
        text = str(error)
        if "ermission denied" in text:
            mend = "Your user may not speak to it: sudo usermod -aG docker $USER, then log in again."
        else:
            mend = "Start it (sudo systemctl start docker, or Docker Desktop), then run the command again."
        raise UserError(f"the Docker engine does not answer. {mend}\n  {text}") from error
    return found


def compose_command(*words: str, every_profile: bool = False) -> list[str]:
    """A Compose command line; `every_profile` makes it speak of all stages' services."""
    return ["docker", "compose", *(["--profile", "*"] if every_profile else []), *words]


def compose(settings: Settings, *words: str, profile: str | None = None, every_profile: bool = False) -> str:
    """Run a Compose command and return what it printed.

    Raises:
        UserError: it failed, with its own last words.
    """
    done = subprocess.run(
        compose_command(*words, every_profile=every_profile),
        cwd=ROOT,
        env=settings.environment(profile),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise UserError(explain(f"docker compose {' '.join(words)}", done.stdout + done.stderr))
    return done.stdout


def explain(what: str, output: str) -> str:
    """An error for people from the output of a failed command."""
    lines = [line for line in output.strip().splitlines() if line.strip()]
    known = {
        "no space left on device": "the disk is full; free some, for example: docker system prune",
        "address already in use": "a port is taken by another program; choose another: make up STAGE=… HTTP_PORT=8080",
        "port is already allocated": "a port is taken by another container; choose another: "
        "make up STAGE=… HTTP_PORT=8080",
        "Pool overlaps with other one": "another Docker network has the addresses; choose others: "
        "make up STAGE=… SUBNET_PREFIX=10.81",
    }
    mend = next((f"\n{mend}" for sign, mend in known.items() if sign in output), "")
    return f"`{what}` failed:\n" + "\n".join(f"  {line}" for line in lines[-12:]) + mend


def containers(settings: Settings) -> dict[str, Container]:
    """The project's containers, running or not, by service name."""
    found = client().containers.list(
        all=True, ignore_removed=True, filters={"label": f"com.docker.compose.project={settings.project}"}
    )
    return {
        container.labels["com.docker.compose.service"]: container
        for container in found
        # A helper has the labels of its image, which Compose built, but is no container of Compose's.
        if container.labels.get("com.docker.compose.oneoff") == "False"
    }


def exec_in(
    container: Container, command: Sequence[str], *, user: str = "", timeout: float | None = None
) -> str | None:
    """What a command in a running container prints, or None when it can't be asked; by its own user, unless told.

    One that is frozen meanwhile can't be asked for ever: after `timeout` seconds it counts as one that can't.
    """
    as_user = ["--user", user] if user else []
    whole = ["docker", "exec", *as_user, str(container.id), *command]
    try:
        done = subprocess.run(whole, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
