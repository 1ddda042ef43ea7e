"""What every test may ask for: the stack, in a project of its own, on free ports and a free subnet.

The stack is brought up the way a user does it, by make, and only when a test asks for a stage. Tests of one stage
run one after another, so that a run climbs the ladder once; each may rely on nothing but a healthy stage.
"""

import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from docker.models.containers import Container

from ladder import doctor, settings
from ladder.engine import client, containers
from ladder.nodes import targets
from ladder.settings import ROOT, Settings
from ladder.stages import Stage, stage_of
from ladder.wait import wait_until

ENV_FILE = ".ladder/test.env"
LOGS = ROOT / ".ladder/test-logs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test its stages, and run what needs no stack first, then stage by stage."""
    items.sort(key=lambda item: stage_number(item))


def stage_number(item: pytest.Item) -> int:
    """The stage that a test wants, or -1 for none."""
    params = getattr(item, "callspec", None)
    number = params.params.get("stage", -1) if params else -1
    return number if isinstance(number, int) else -1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for the stack runs once on every stage of its `stage` mark."""
    if "stack" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("stage")
        assert mark, f"{metafunc.definition.nodeid} uses the stack but has no @pytest.mark.stage(…)"
        metafunc.parametrize("stage", mark.args, ids=[f"stage{number}" for number in mark.args], scope="session")


@dataclass
class Stack:
    """The stack under test, driven by make."""

    settings: Settings
    environment: dict[str, str]
    stage: Stage = field(init=False)
    up: int = -1

    def make(self, verb: str, **values: str) -> subprocess.CompletedProcess[str]:
        """Run a make command, without a terminal, and return its end; it may fail."""
        return subprocess.run(
            ["make", "--silent", verb, *(f"{name}={value}" for name, value in values.items())],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )

    def must(self, verb: str, **values: str) -> str:
        """Run a make command that has to succeed, and return what it printed."""
        done = self.make(verb, **values)
        assert done.returncode == 0, f"make {verb} {values} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ensure(self, number: int) -> None:
        """Have a stage up and well; costs nothing when it is."""
        if self.up != number:
            self.must("up", STAGE=str(number))
            self.up, self.stage = number, stage_of(str(number))
            self.settings = settings.check(self.settings.raw, self.stage.profile)

    def compose(self, *words: str) -> str:
        """Run plain docker compose, as a user would after `make up`."""
        done = subprocess.run(
            ["docker", "compose", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"docker compose {words} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def node(self, name: str) -> Container:
        """A container by its node name."""
        return containers(self.settings)[name]

    def holder(self, role: str) -> str:
        """The one node that has a role now."""
        (name,) = targets(self.settings, role)
        return name

    def visitor(self, timeout: float = 20.0) -> httpx.Client:
        """An HTTP client that calls the site by its name, through the published port."""
        return httpx.Client(
            base_url=self.settings.url,
            headers={"Host": "www.foobar.com"},
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
        )

    def serves(self, within: float = 60.0) -> None:
        """Wait until the API reads and writes."""

        def works() -> bool:
            try:
                with self.visitor(timeout=5) as visitor:
                    served = visitor.get("/api/served-by")
                    return served.status_code == 200 and served.json()["writes"]["name"] is not None
            except httpx.HTTPError:
                return False

        wait_until(works, within=within, what="the API reads and writes")


def free_port(*, udp: bool = False) -> int:
    """A port that nobody has at the moment, for TCP and, if asked, UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            if not udp:
                return port
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@pytest.fixture(scope="session")
def the_stack() -> Iterator[Stack]:
    """The run's only stack; gone without a trace at the end."""
    project = "foobar-test-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COMPOSE_")} | {
        "COMPOSE_PROJECT_NAME": project,
        "COMPOSE_ENV_FILES": ENV_FILE,
        "HTTP_PORT": str(free_port()),
        "DNS_PORT": str(free_port(udp=True)),
    }
    for number in range(90, 250):
        environment["SUBNET_PREFIX"] = f"10.{number}"
        defaults = {key: environment.get(key, value) for key, value in DEFAULTS.items()}
        values = settings.check(defaults, "")
        if doctor.check_subnet(values).ok:
            break
    (ROOT / ".ladder").mkdir(exist_ok=True)
    (ROOT / ENV_FILE).write_text("")
    stack = Stack(values, environment)
    stack.make("wipe")  # what an interrupted run may have left
    yield stack
    stack.make("wipe")
    for image in client().images.list(filters={"reference": f"{project}/*"}):
        client().images.remove(image.tags[0], force=True)
    (ROOT / ENV_FILE).unlink()


DEFAULTS = {k: v or "" for k, v in settings.dotenv.dotenv_values(settings.DEFAULTS).items()}


@pytest.fixture
def stack(the_stack: Stack, stage: int) -> Iterator[Stack]:
    """The stack, up and well on the stage of this test; every fault is undone afterwards."""
    the_stack.ensure(stage)
    yield the_stack
    if the_stack.up == stage:
        healed = the_stack.make("heal")
        if healed.returncode:
            the_stack.up = -1
            pytest.fail(f"the stage did not recover:\n{healed.stdout}\n{healed.stderr}")


@pytest.fixture
def visitor(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client of the running stage."""
    with stack.visitor() as found:
        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep the logs of all containers of a stack whose test failed."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("the_stack") or getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        folder = LOGS / item.name.replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for name, container in containers(stack.settings).items():
            Path(folder / f"{name}.log").write_bytes(container.logs(timestamps=True))
        report.sections.append(("containers", f"the logs of all containers are in {folder.relative_to(ROOT)}"))
    return report
