"""The stack that the tests ask for, driven the way a user does it: by make."""

import re
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from docker.models.containers import Container

from ladder import certificates, collector, door, marks, promote, receiver, redundancy, settings
from ladder.drills import site
from ladder.drills.checker import check
from ladder.drills.record import Record
from ladder.engine import containers
from ladder.errors import UserError
from ladder.faults import FAULTS
from ladder.nodes import stage_in_force, targets
from ladder.settings import ROOT, Settings
from ladder.stages import STAGES, Stage, stage_of
from ladder.wait import wait_until

PASSWORD = "correct horse battery"


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
        """The one node that has a role now; it may be changing hands, and is waited for."""

        def found() -> list[str]:
            with suppress(UserError):
                return list(targets(self.settings, role))
            return []

        wait_until(lambda: len(found()) == 1, within=15, what=f"one node is the {role}")
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
