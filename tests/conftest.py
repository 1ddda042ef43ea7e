"""What every test may ask for: the stack, in a project of its own, on free ports and a free subnet.

The stack is brought up the way a user does it, by make, and only when a test asks for a stage. Tests of one stage
run one after another, so that a run climbs the ladder once; each may rely on nothing but a healthy stage.
"""

import re
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from docker.models.containers import Container

from ladder import (
    aside,
    certificates,
    collector,
    doctor,
    door,
    images,
    marks,
    promote,
    receiver,
    redundancy,
    settings,
)
from ladder.drills import site
from ladder.drills.checker import Verdict, check
from ladder.drills.record import Record, load
from ladder.engine import containers
from ladder.faults import FAULTS
from ladder.nodes import stage_in_force, targets
from ladder.settings import ROOT, Settings
from ladder.stages import STAGES, Stage, stage_of
from ladder.wait import wait_until
from tests.traffic import Traffic
from tests.writers import watching

LOGS = ROOT / ".ladder/test-logs"
PASSWORD = "correct horse battery"


def pytest_configure() -> None:
    """Be interrupted by SIGINT, and let what is started be, even where a shell's & had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--long."""
    parser.addoption("--long", action="store_true", help="the long tests as well, three quarters of an hour more")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what needs no stack first, then stage by stage; the long ones only if asked for."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
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


class ByName(httpx.HTTPTransport):
    """The published address, asked for the site's name where it speaks HTTPS; trusts our authority alone."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(verify=certificates.context() if door.secure(settings) else False, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = door.HOST
        return super().handle_request(request)


@contextmanager
def file_with(path: Path, old: str, new: str) -> Iterator[None]:
    """A file of this checkout with something else in it, for a moment."""
    kept = path.read_text()
    assert kept.count(old) == 1
    path.write_text(kept.replace(old, new))
    try:
        yield
    finally:
        path.write_text(kept)


def mebibytes(text: str) -> float:
    """From what `docker stats` prints."""
    found = re.fullmatch(r"([\d.]+)([KMG]iB)", text)
    assert found, text
    return float(found[1]) * {"KiB": 2**-10, "MiB": 1, "GiB": 2**10}[found[2]]


@dataclass
class Stack:
    """The stack under test, driven by make."""

    settings: Settings
    environment: dict[str, str]
    stage: Stage = STAGES[0]
    up: int = -1
    """The number of the stage that is up and well; -1 when that isn't known."""
    since: dict[str, str] = field(default_factory=dict)
    """When each container of the healthy stage was started."""
    token: str = ""
    """The author's, as a header; void after a wipe."""
    broken: bool = False
    """A fault was inflicted by make since the stage was last known to be well."""

    def make(self, verb: str, **values: str) -> subprocess.CompletedProcess[str]:
        """Run a make command, without a terminal, and return its end; it may fail.

        One that heals all waits until the stage is well, so that this is known afterwards.
        """
        self.broken |= verb in FAULTS
        self.token = "" if verb == "wipe" else self.token
        done = subprocess.run(
            ["make", "--silent", verb, *(f"{name}={value}" for name, value in values.items())],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )
        if verb == "heal" and "NODE" not in values and done.returncode == 0:
            self.is_up(self.stage.number)
        return done

    def must(self, verb: str, **values: str) -> str:
        """Run a make command that has to succeed, and return what it printed."""
        done = self.make(verb, **values)
        assert done.returncode == 0, f"make {verb} {values} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ensure(self, number: int) -> None:
        """Have a stage up and well; costs nothing when it is."""
        if self.up != number:
            self.up = -1
            self.must("up", STAGE=str(number))
            self.is_up(number)

    def is_up(self, number: int) -> None:
        """Take down that a stage is up and well now."""
        self.up, self.broken = number, False
        kept = settings.read(ROOT / self.environment["COMPOSE_ENV_FILES"])
        written = ("GRAFANA_LEFT_OUT", "LB_CLUSTER", "WEB_SERVERS", "APP_SERVERS", "MORE_SERVERS")
        defaults = settings.read(settings.DEFAULTS)
        raw = {**self.settings.raw, **{name: kept.get(name, defaults[name]) for name in written}}
        self.settings = settings.check(raw, stage_of(str(number)).profile)
        self.stage = stage_in_force(self.settings)
        self.since = self.starts()

    def starts(self) -> dict[str, str]:
        """When each running container was started; shows faults that were inflicted behind make's back."""
        return {
            name: container.attrs["State"]["StartedAt"]
            for name, container in containers(self.settings).items()
            if container.status == "running"
        }

    def restore(self) -> None:
        """Undo whatever a test did to the containers of the stage, and fail if that can't be done."""
        if self.broken or self.starts() != self.since:
            self.up = -1
            self.must("heal")

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

    def is_whole(self, within: float = 60.0) -> None:
        """Wait until every server is well, one database is the primary, and the other has all of it.

        Nor is it said on a disk that anything may be missing on the other: whichever dies now, a promotion is let pass.
        """

        def wrong() -> str:
            said = (
                f"{node} was {word} since {since.strip()}"
                for node in self.stage.databases
                for word in ("alone", "behind")
                if (since := promote.kept(self.node(node), word))
            )
            return redundancy.missing(self.settings, self.stage) or ", ".join(said)

        wait_until(lambda: not wrong(), within=within, what="the stage is whole", hint=wrong)

    def holder(self, role: str) -> str:
        """The one node that has a role now."""
        (name,) = targets(self.settings, role)
        return name

    def bring(self, message: bytes) -> None:
        """Bring the collector a WriteRequest, as the clients and the workbench do (ladder/marks.py)."""
        url = f"{collector.address(self.settings)}/api/v1/write"
        request = urllib.request.Request(url, marks.packed(message), receiver.HEADERS)
        collector.opener().open(request, timeout=10).close()

    def run_in(self, node: str, *command: str) -> str:
        """What a command prints in a container; it has to succeed there."""
        done = subprocess.run(["docker", "exec", str(self.node(node).id), *command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command} in {node} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def background(self, node: str, *command: str) -> Iterator[None]:
        """A command in a container that goes on for as long as the block, or until its input ends."""
        words = ["docker", "exec", "--interactive", str(self.node(node).id), *command]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            try:
                yield
            finally:
                assert process.stdin
                process.stdin.close()
                process.wait(timeout=90)

    def memory(self) -> dict[str, float]:
        """What each container of the stage takes now, in MiB, without what the kernel may drop."""
        names = {self.node(node).name or "": node for node in self.stage.nodes}
        words = ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return {names[line.split()[0]]: mebibytes(line.split()[1]) for line in said.splitlines()}

    def sql(self, node: str, query: str) -> list[list[str]]:
        """The rows that a database node gives to its administrator."""
        said = self.run_in(node, "mysql", "--batch", "--skip-column-names", "foobar", "--execute", query)
        return [line.split("\t") for line in said.splitlines()]

    def log(self, node: str) -> str:
        """Everything that a container has said."""
        return self.node(node).logs().decode(errors="replace")

    def visitor(self, timeout: float = 20.0) -> httpx.Client:
        """An HTTP client that calls the site by its name, through the published port."""
        return httpx.Client(
            base_url=door.url(self.settings),
            headers={"Host": door.HOST},
            timeout=timeout,
            follow_redirects=False,
            transport=ByName(self.settings),
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

    def author(self, name: str = "") -> httpx.Client:
        """A visitor of the API with an account of its own."""
        name = name or f"author-{uuid.uuid4().hex[:12]}"
        with self.visitor() as stranger:
            made = stranger.post("/api/accounts", json={"name": name, "password": PASSWORD})
        assert made.status_code == 201, made.text
        found = self.visitor()
        found.headers["Authorization"] = f"Bearer {made.json()['token']}"
        return found

    def keeps_promises(self, run: str, history: Record) -> None:
        """Every acknowledged write is on every database node, once. A replica may take a moment."""

        def wrong() -> list[str]:
            holdings = site.holdings(self.settings, self.stage, run)
            verdicts = [check(replace(history, stored=(replace(stored, role="primary"),))) for stored in holdings]
            missing = {*self.stage.databases} - {stored.node for stored in holdings}
            return [*missing, *(text for verdict in verdicts for text in (*verdict.lost, *verdict.twice))]

        assert history.of("write", "ok"), "no write was acknowledged, so nothing is proven"
        wait_until(
            lambda: not wrong(),
            within=20,
            what="every database has every acknowledged write, once",
            hint=lambda: f"wrong: {wrong()}",
        )


@pytest.fixture(scope="session")
def machine() -> None:
    """A machine as `make up` leaves it: on a bare one, Compose and Buildx are installed first."""
    doctor.mend(list(doctor.examine(aside.checked({}))), print)


@pytest.fixture(scope="session")
def the_stack(machine: None) -> Iterator[Stack]:
    """The run's only stack; gone without a trace at the end."""
    environment = aside.values("test")
    stack = Stack(aside.checked(environment), environment)
    stack.make("wipe")  # what an interrupted run may have left
    yield stack
    stack.make("wipe")
    images.forget(stack.settings)
    (ROOT / environment["COMPOSE_ENV_FILES"]).unlink()


@pytest.fixture
def stack(the_stack: Stack, stage: int) -> Iterator[Stack]:
    """The stack, up and well on the stage of this test; every fault is undone afterwards."""
    the_stack.ensure(stage)
    yield the_stack
    if the_stack.up == stage:
        the_stack.restore()


@pytest.fixture
def visitor(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client of the running stage."""
    with stack.visitor() as found:
        yield found


@pytest.fixture
def author(stack: Stack) -> Iterator[httpx.Client]:
    """A visitor of the API with an account, one for the run: making them all would take a minute of hashing."""
    if not stack.token:
        with stack.author() as first:
            stack.token = first.headers["Authorization"]
    with stack.visitor() as found:
        found.headers["Authorization"] = stack.token
        yield found


@pytest.fixture
def one_writer(stack: Stack) -> Iterator[None]:
    """At no moment of the test could an application write to two databases, whatever each of its servers reaches."""
    with ExitStack() as watchers:
        views = {
            server: watchers.enter_context(watching(stack.node(server), stack.stage.databases))
            for server in stack.stage.of("app")
        }
        yield
    for server, seen in views.items():
        assert seen["answers"], f"{server} could write to no database at any time: the watcher sees nothing"
        assert not seen["both"], f"{server} could write to two, at {seen['both']} of {seen['looks']} looks"


@pytest.fixture
def traffic(stack: Stack, author: httpx.Client, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Traffic]:
    """Steady reads and writes through the published port, already flowing; at other rates, if a test sets them."""
    token = author.headers["Authorization"].removeprefix("Bearer ")
    found = Traffic(stack.settings, token, tmp_path, **getattr(request, "param", {}))
    try:
        yield found
    finally:
        found.stop()


Drilled = Callable[[str], tuple[Record, Verdict]]


@pytest.fixture
def drilled(stack: Stack) -> Drilled:
    """Run a drill as a user does, by make, which fails if a promise is broken; its record and verdict.

    With half the usual visitors: on a busy machine a stage with HTTPS can't carry more, whatever is broken in it.
    A void one, in which the visitor was held up by a busy machine, is no verdict, and is run again; so is one that was
    refused for that.
    """

    def run(fault: str) -> tuple[Record, Verdict]:
        for _ in range(3):
            done = stack.make("drill", FAULT=fault, SECONDS="6", READS="50", WRITES="10")
            said = done.stdout + done.stderr
            if "too busy" in done.stderr:
                continue
            where = re.search(r"^record: +(.+)$", done.stdout, re.MULTILINE)
            if not where:  # something else was in the way, and it says what
                pytest.fail(said)
            record = load(ROOT / where[1])
            verdict = check(record)
            if not verdict.void:
                assert done.returncode == 0, said
                return record, verdict
        pytest.fail(said)

    return run


Measure = Callable[[str, object], None]


@pytest.fixture
def measure(record_property: Callable[[str, object], None]) -> Measure:
    """Report a measured value, by name; they are listed at the end of the run and never asserted."""
    return record_property


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was measured."""
    passed: list[pytest.TestReport] = terminalreporter.getreports("passed")
    measured = [(report.nodeid, *pair) for report in passed if report.when == "call" for pair in report.user_properties]
    if measured:
        terminalreporter.section("measured")
    for test, name, value in measured:
        terminalreporter.line(f"{test.rpartition('/')[2]}  {name}: {value}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
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
