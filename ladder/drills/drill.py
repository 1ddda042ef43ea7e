"""A drill: steady visitors, a fault, its healing, and the record of it all.

"kill web1" is one fault. "partition replica and wipe primary" is the second on top of the first; "kill web1 then kill
web2" is the second as soon as the first is healed and everything is back.
"""

import datetime
import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ladder import certificates, door, faults, pair, replication
from ladder.drills import record as records
from ladder.drills import site
from ladder.drills.checker import RECOVERED, check, sentence
from ladder.drills.promises import ANYTHING, broken, promise
from ladder.drills.record import Begin, Record, Stored, line
from ladder.drills.visitor import PATIENCE
from ladder.engine import client, containers
from ladder.errors import UserError
from ladder.nodes import stage_in_force
from ladder.redundancy import missing, whole
from ladder.settings import ROOT, Settings, load
from ladder.wait import wait_until

READS, WRITES = 100.0, 20.0
"""Requests a second, if the user says nothing else."""
SECONDS = 12.0
"""How long a fault lasts: longer than every time-out of the stack (docs/timeouts.md), so that all of them are met."""
SPACING = 3.0
"""Seconds from a fault to the next on top of it."""
STEADY = 2.0
"""Seconds of faultless visits that go before the first fault, and follow the last healing."""
REACHED_WITHIN = 15.0
"""Seconds until visits must succeed, else nothing is broken at all."""
CALM, CALM_WITHIN = 0.5, 60.0
"""Seconds that no visit may take before the fault, and until that must be so: on a busy machine, all is slow."""
BACK_WITHIN = 120.0
"""Seconds from a healing until everything must be back; a database that lost its disk is filled by then."""
FOLDER = ROOT / ".ladder/drills"
STACK = (
    *("app", "compose", "compose.yaml", "dns", "firewall", "haproxy", "mysql", "nginx", "pki", "prometheus"),
    *(".env.example", "grafana", "rsyslog"),
)
"""What drills are about; what else is in the checkout changes none of their figures."""


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    phases: tuple[tuple[faults.Order, ...], ...]
    """One after the other, each healed before the next; within a phase, one on top of the other."""
    seconds: float = SECONDS
    reads: float = READS
    writes: float = WRITES
    keys: bool = True
    """Writes carry an Idempotency-Key."""

    def __str__(self) -> str:
        return " then ".join(" and ".join(map(str, phase)) for phase in self.phases)


def plan(words: str, seconds: float = SECONDS, reads: float = READS, writes: float = WRITES) -> Plan:
    """A plan from what a user says.

    Raises:
        UserError: a fault or its form is unknown, or a rate or time is out of bounds.
    """
    for name, value, least, most in (
        ("SECONDS", seconds, 1, 600),
        ("READS", reads, 1, 1000),
        ("WRITES", writes, 0, 200),
    ):
        if not least <= value <= most or 0 < value < 1:
            none = "0, or " if least == 0 else ""
            raise UserError(f"{name}={value:g}: {none}a number from 1 to {most}")
    phases = [re.split(r"\s*\band\b\s*", phase) for phase in re.split(r"\s*\bthen\b\s*", words.strip())]
    if any(not order for phase in phases for order in phase):
        raise UserError(f"a fault is missing in {words!r}; for example: kill web1 then kill web2")
    return Plan(tuple(tuple(map(faults.parse, phase)) for phase in phases), seconds, reads, writes)


class Visitors:
    """The visitor's process, and what it has told so far."""

    def __init__(self, settings: Settings, plan: Plan, run: str, token: str, path: Path, zero: float) -> None:
        self.rates = {"read": plan.reads, "write": plan.writes}
        self.requests: list[records.Request] = []
        self._zero = zero
        self._lines = path.open(encoding="utf-8")
        self._rest = ""
        words = [f"--address={settings.address}", f"--port={door.port(settings)}", f"--run={run}", f"--zero={zero}"]
        words += [f"--trust={certificates.TRUSTED}"] if door.secure(settings) else []
        words += [f"--reads={plan.reads}", f"--writes={plan.writes}", f"--record={path}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ladder.drills.visitor", *words, *([] if plan.keys else ["--without-keys"])],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            # Ctrl-C is for the drill, which then ends the visitor.
            start_new_session=True,
        )
        assert self._process.stdin
        # Kept open: when the drill is no more, however it ended, the visitor hears of it.
        self._process.stdin.write(token.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End when the requests under way have ended. Can be called again."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=PATIENCE + 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def read(self) -> list[records.Request]:
        """Every request that has ended, as they were due."""
        *lines, self._rest = (self._rest + self._lines.read()).split("\n")
        events = (json.loads(text) for text in lines)
        self.requests += [records.request(event) for event in events if event.pop("event") == "request"]
        self.requests.sort(key=lambda request: request.due)
        return self.requests

    def well(self, since: float, latency: float = PATIENCE) -> bool:
        """Of each kind, the last visits that were due from a moment on, STEADY of them, were answered well in time."""
        for kind, rate in self.rates.items():
            number = max(RECOVERED, int(STEADY * rate)) if rate else 0
            found = [request for request in self.read() if request.kind == kind and request.due >= since]
            good = [request for request in found[-number:] if request.outcome == "ok" and request.latency <= latency]
            if len(good) < number:
                return False
        return True

    def trouble(self) -> str:
        """What became of the last one that failed."""
        return next((str(request) for request in reversed(self.read()) if request.outcome != "ok"), "no answer at all")


class Drill:
    """One run of a plan against the running stage."""

    def __init__(self, settings: Settings, plan: Plan, path: Path, say: Callable[[str], None]) -> None:
        self._settings, self._plan, self._path, self._say = settings, plan, path, say
        self._stage = stage_in_force(settings)
        self._zero = time.monotonic()
        self._run = uuid.uuid4().hex[:12]
        self._hurt: set[str] = set()
        """The nodes that must be healed."""

    def run(self) -> Record:
        """Do it, and return the record. Whatever happens, what was broken is healed.

        Raises:
            UserError: it makes no sense here and now; nothing was broken then. Or the stack could not be healed.
        """
        self._refuse_unless_possible()
        self._tell("begin", **asdict(self._begin()))
        account = f"drill-{self._run}"
        token = site.join(self._settings, account) if self._plan.writes else ""
        visitors = Visitors(self._settings, self._plan, self._run, token, self._path, self._zero)
        whole = True
        try:
            self._warm_up(visitors)
            whole = False
            for phase in self._plan.phases:
                self._break(phase)
                self._last(self._plan.seconds)
                self._heal()
            whole = True
            since = self._now()
            with suppress(UserError):  # a site that stays down is the drill's result, not its failure
                wait_until(lambda: visitors.well(since), within=REACHED_WITHIN, what="visits succeed")
        finally:
            try:
                if not whole:
                    self._say("healing what was broken, and waiting until all is well")
                    faults.heal(self._settings, self._stage)
            finally:
                visitors.stop()
            if whole:
                self._take_stock()
            else:
                wait_until(self._whole(), within=BACK_WITHIN, what="everything is back", every=0.5)
            site.forget(self._settings, self._stage)
        return records.load(self._path)

    def _now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._zero

    def _tell(self, event: str, **fields: Any) -> None:
        with self._path.open("a", encoding="utf-8") as record:
            record.write(line(event, **fields))

    def _begin(self) -> Begin:
        return Begin(
            run=self._run,
            stage=self._stage.number,
            faults=str(self._plan),
            reads=self._plan.reads,
            writes=self._plan.writes,
            patience=PATIENCE,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            commit=commit(),
            machine=machine(),
        )

    def _in_roles(self, words: str) -> str:
        present = containers(self._settings)
        for node in self._stage.databases:
            words = re.sub(rf"\b{node}\b", replication.role(present[node]) if node in present else node, words)
        if self._stage.paired:
            seats = pair.seats(self._settings, self._stage)
            words = balancers_in_roles(words, {node: bool(seat and seat.holds) for node, seat in seats.items()})
        return words

    def _refuse_unless_possible(self) -> None:
        for phase in self._plan.phases:
            for order in phase:
                faults.check(self._settings, order)
        try:
            wait_until(self._whole(), within=REACHED_WITHIN, what=f"stage {self._stage.number} is whole", every=0.5)
        except UserError as error:
            wrong = missing(self._settings, self._stage)
            raise UserError(f"nothing was broken, because something is already: {wrong}; mend it: make heal") from error
        site.forget(self._settings, self._stage)  # what a drill left that was killed

    def _whole(self) -> Callable[[], bool]:
        return whole(self._settings, self._stage)

    def _warm_up(self, visitors: Visitors) -> None:
        begun = self._now()
        self._say(f"visitors arrive: {self._plan.reads:g} reads and {self._plan.writes:g} writes a second")
        try:
            # The first ones may meet cold caches; what counts is that the last ones succeed.
            wait_until(lambda: visitors.well(begun), within=REACHED_WITHIN, what="visits succeed", every=0.1)
        except UserError as error:
            raise UserError(f"nothing was broken: before that, {visitors.trouble()}; see: make ps") from error
        try:
            wait_until(lambda: visitors.well(begun, CALM), within=CALM_WITHIN, what="visits are quick", every=0.1)
        except UserError as error:
            why = f"visits took longer than {CALM} s; this machine is too busy"
            if not visitors.well(begun):
                why = visitors.trouble()
            raise UserError(f"nothing was broken: before that, {why}; see: make ps") from error

    def _break(self, phase: tuple[faults.Order, ...]) -> None:
        self._tell("phase", means=self._in_roles(" and ".join(map(str, phase))))
        for number, order in enumerate(phase):
            if number:
                self._last(SPACING)
            if order.verb in faults.LASTING:
                self._hurt |= faults.check(self._settings, order).keys()
            at = self._now()
            said = faults.carry_out(self._settings, order)
            if order.verb == "scale":
                self._settings = load()
                self._stage = stage_in_force(self._settings)
            self._tell("fault", at=at, done=self._now(), order=str(order), said=said)
            for each in said:
                self._say(each)

    def _last(self, seconds: float) -> None:
        """Let it be as it is for a while. The time is the point here, not a condition."""
        time.sleep(seconds)

    def _heal(self) -> None:
        at = self._now()
        said = faults.heal(self._settings, self._stage, *self._hurt) if self._hurt else []
        self._hurt.clear()
        self._tell("heal", at=at, done=self._now(), said=said)
        for each in said:
            self._say(each)
        try:
            wait_until(self._whole(), within=BACK_WITHIN, what="everything is back", every=0.2)
            self._tell("redundant", at=self._now())
        except UserError:  # the drill's result, not its failure
            self._say(f"not back after {BACK_WITHIN:g} s: {missing(self._settings, self._stage)}")

    def _take_stock(self) -> None:
        """What every database holds, when all hold the same: a write may still be on its way to a replica."""
        found: list[Stored] = []

        def alike() -> bool:
            found[:] = site.holdings(self._settings, self._stage, self._run)
            return len(found) == len(self._stage.databases) and len({stored.messages for stored in found}) == 1

        with suppress(UserError):  # the checker finds by itself who lacks what
            wait_until(alike, within=BACK_WITHIN, what="all databases hold the same")
        for stored in found:
            self._tell("stored", at=self._now(), **asdict(stored))


def balancers_in_roles(words: str, works: dict[str, bool]) -> str:
    """A plan that names two balancers by what they do. Where both work, the loss of either is that of `lb`."""
    both = all(works.values())
    if both:
        words = re.sub(rf"((?:^|\band |\bthen )[a-z-]+) (?:{'|'.join(works)}|standby)\b", r"\1 lb", words)
    for node, holds in works.items():
        words = re.sub(rf"\b{node}\b", "lb" if holds and not both else "standby", words)
    return words


def conduct(settings: Settings, plan: Plan, say: Callable[[str], None], folder: Path = FOLDER) -> Path:
    """Run a plan, and return where its record is.

    Raises:
        UserError: see Drill.run.
    """
    slug = "-".join(re.findall(r"[a-z0-9]+", str(plan).lower()))
    path = folder / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{settings.profile}-{slug}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    Drill(settings, plan, path, say).run()
    return path


def draw(path: Path) -> Path:
    """Draw a record's picture beside it, and return where."""
    from ladder.drills import picture  # plotly takes its time to load

    record = records.load(path)
    page = path.with_suffix(".html")
    page.write_text(picture.draw(record, check(record)), encoding="utf-8")
    return page


def report(record: Record) -> Iterator[str]:
    """What a record says, for people; the last line tells whether the rung's promise was kept.

    Raises:
        UserError: at its end, when the promise was broken or there is no verdict.
    """
    verdict = check(record)
    yield sentence(verdict)
    if verdict.void:
        raise UserError(
            "this drill has no verdict; say it again, on a small machine with fewer visitors: READS=50 WRITES=10"
        )
    stage, means = record.begin.stage, record.means
    promised = promise(stage, means)
    if wrong := list(broken(promised, verdict)):
        raise UserError(f"stage {stage} does not keep its promise:\n" + "\n".join(f"  {each}" for each in wrong))
    yield "nothing is promised for this" if promised == ANYTHING else f"stage {stage} keeps its promise for this"


def commit() -> str:
    """The checkout's commit, with a + if the stack was changed since."""
    done = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True)
    found = done.stdout.strip()
    return found if same_stack(found) else f"{found}+"


def same_stack(commit: str, other: str = "") -> bool:
    """The stack was at this commit what it was at the other; what it is now, if no other is named."""
    ask = ["git", "diff", "--quiet", commit, *([other] if other else []), "--", *STACK]
    return subprocess.run(ask, cwd=ROOT, capture_output=True).returncode == 0


def known(commit: str) -> bool:
    """It is a commit of this checkout, and nobody says that the stack had been changed since."""
    ask = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    return "+" not in commit and subprocess.run(ask, cwd=ROOT, capture_output=True).returncode == 0


def machine() -> str:
    """What the drill ran on, in a few words: what the engine may use, not what this machine may have beside it."""
    info = client().info()
    kernel = info["KernelVersion"].partition("-")[0]
    memory = info["MemTotal"] / 2**30
    return f"{info['NCPU']} cores, {memory:.0f} GiB, Linux {kernel}, Docker {info['ServerVersion']}"
