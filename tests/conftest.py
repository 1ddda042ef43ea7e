"""What every test may ask for: the stack, in a project of its own, on free ports and a free subnet.

The stack (stack.py) is brought up only when a test asks for a stage. Tests of one stage run one
after another, so that a run climbs the ladder once; each may rely on nothing but a healthy stage.
"""

import re
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from ladder import aside, doctor, images
from ladder.drills.checker import Verdict, check
from ladder.drills.record import Record, load
from ladder.engine import containers
from ladder.settings import ROOT
from tests.stack import Stack
from tests.traffic import Traffic
from tests.writers import watching

LOGS = ROOT / ".ladder/test-logs"


def pytest_configure() -> None:
    """Be interrupted by SIGINT, and let what is started be, even where a shell's & had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--long."""
    parser.addoption("--long", action="store_true", help="the long tests as well, an hour more")


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

    With a quarter of the usual visitors: a slow machine can't carry more of a stage with HTTPS, whatever is broken in
    it. (Four reads to a write, by two servers in turn: so each gets both kinds.) A void one, in which the visitor was
    held up by a busy machine, is no verdict, and is run again; so is one that was refused for that.
    """

    def run(fault: str) -> tuple[Record, Verdict]:
        for _ in range(5):
            done = stack.make("drill", FAULT=fault, SECONDS="6", READS="24", WRITES="6")
            said = done.stdout + done.stderr
            if "too busy" in done.stderr or "at the moment; see" in done.stderr:
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
