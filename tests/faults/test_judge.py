"""The judge can judge: with a guard of the stack taken out, the same drill turns the right figure red.

House rule: a test that can't fail is a defect. The guards are those of haproxy.cfg, of the application's choice of a
database and of its idempotency keys; forged records are judged in tests/unit/ladder/test_checker.py.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ladder.aside import free_port
from ladder.drills.checker import Verdict, check, sentence
from ladder.drills.drill import Drill, Plan, plan
from ladder.drills.promises import PROMISES, broken
from ladder.drills.record import Record
from ladder.errors import UserError
from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack
from tests.traffic import at_port

pytestmark = pytest.mark.stage(1)

REDISPATCH = {
    r"^    retries \d+$": "    retries 0",
    r"^    option redispatch.*$": "    no option redispatch",
    r"^    retry-on .*$": "    retry-on none",
}
HEALTH_CHECK = {
    r"^    default-server check .* resolvers (.*)$": r"    default-server resolvers \1",
    r"^    option httpchk$": "",
    r"^    http-check .*\n    http-check .*$": "",
    r"^    timeout check 1s$": "",
}
KEY_BEFORE_RETRY = {r"^    http-request disable-l7-retry .*$": ""}


@contextmanager
def running(stack: Stack, *command: str) -> Iterator[None]:
    """A container by a docker command that prints its id last; removed at the end."""
    done = subprocess.run(["docker", *command], cwd=ROOT, env=stack.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        ident = done.stdout.split()[-1]
        subprocess.run(["docker", "rm", "--force", "--volumes", ident], capture_output=True, check=True)


@contextmanager
def balancer_without(stack: Stack, guard: dict[str, str]) -> Iterator[int]:
    """A second balancer, from the same image, with some lines of its configuration changed; the port of its door."""
    text = (ROOT / "haproxy/haproxy.cfg").read_text()
    for line, without in guard.items():
        text, times = re.subn(line, without, text, flags=re.MULTILINE)
        assert times == 1, f"haproxy.cfg no longer has this line: {line}"
    port = free_port()
    project = stack.settings.project
    balancer = stack.node("lb1").attrs["Config"]
    words = [word for value in balancer["Env"] if value.startswith("LB_") for word in ("--env", value)]
    script = 'printf %s "$CONFIG" >/tmp/haproxy.cfg && exec haproxy -W -db -f /tmp/haproxy.cfg'
    start = ["run", "--detach", "--hostname=unguarded", f"--network={project}_web", f"--publish=127.0.0.1:{port}:80"]
    start += [*words, "--env", f"CONFIG={text}", "--entrypoint=sh", f"{project}/lb", "-c", script]
    with running(stack, *start):
        wait_until(lambda: answers(port), within=60, what=f"port {port} answers")
        yield port


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def drilled(
    stack: Stack, folder: Path, wanted: Plan, port: int = 0, say: Callable[[str], None] = print
) -> tuple[Record, Verdict]:
    """A drill through another door; again when a busy machine held the visitor up, or all visits: no verdict."""
    values = at_port(stack.settings, port or stack.settings.http_port)
    wanted = replace(wanted, reads=24.0, writes=min(wanted.writes, 6.0))
    why = ""
    for turn in range(5):
        try:
            record = Drill(values, wanted, folder / f"{turn}.jsonl", say).run()
        except UserError as error:
            if "too busy" not in str(error):
                raise
            why = str(error)
            continue
        verdict = check(record)
        if not verdict.void:
            return record, verdict
        why = sentence(verdict)
    pytest.fail(why)


def test_without_retries_and_redispatch_a_frozen_web_server_fails_reads(
    stack: Stack, tmp_path: Path, measure: Measure
) -> None:
    with balancer_without(stack, REDISPATCH) as port:
        record, verdict = drilled(stack, tmp_path, plan("pause web1"), port)

    measure("without the guard", sentence(verdict))
    assert all(read.served_by.startswith("unguarded") for read in record.of("read", "ok"))
    assert any(wrong.startswith("failed reads") for wrong in broken(PROMISES[1]["pause web1"], verdict))


def test_without_health_checks_a_dead_web_server_is_felt_for_as_long_as_it_is_dead(
    stack: Stack, tmp_path: Path, measure: Measure
) -> None:
    """Retries still save every read, so it is the time that visitors feel it that turns red."""
    with balancer_without(stack, HEALTH_CHECK) as port:
        _, verdict = drilled(stack, tmp_path, plan("kill web1", seconds=24), port)

    measure("without the guard", sentence(verdict))
    assert "felt for s" in [wrong.split(":")[0] for wrong in broken(PROMISES[1]["kill web1"], verdict)]
    assert verdict.reads.failed == 0


def test_reads_from_the_dead_replica_fail(stack: Stack, tmp_path: Path, measure: Measure) -> None:
    """A third application server that knows of the replica alone, so that no read can fall back to the primary."""
    port = free_port()
    replica = stack.holder("replica")
    start = ["compose", "run", "--detach", "--no-deps", "--env", f"DB_NODES={replica}"]
    start += ["--publish", f"127.0.0.1:{port}:8000", "app2"]
    with running(stack, *start):
        wait_until(lambda: answers(port), within=60, what=f"port {port} answers")
        record, verdict = drilled(stack, tmp_path, plan("kill replica", writes=0), port)

    measure("without the guard", sentence(verdict))
    assert any(wrong.startswith("failed reads") for wrong in broken(PROMISES[1]["kill replica"], verdict))
    assert {read.status for read in record.of("read", "failed")} == {503}


def test_retries_without_a_key_apply_writes_twice(stack: Stack, tmp_path: Path, measure: Measure) -> None:
    """The frozen server had taken the request, and does it when it thaws; the next server has done it long ago."""
    keyless = Plan(plan("pause app1").phases, keys=False)
    with balancer_without(stack, KEY_BEFORE_RETRY) as port:
        _, verdict = drilled(stack, tmp_path, keyless, port)

    measure("without the guard", f"{len(verdict.twice)} writes applied twice")
    assert any(wrong.startswith("writes applied twice") for wrong in broken(PROMISES[1]["pause app1"], verdict))


def test_a_replica_made_writable_loses_what_it_acknowledges(stack: Stack, tmp_path: Path, measure: Measure) -> None:
    """Its node controller closes it again every second; here someone opens it again and again."""
    replica = stack.holder("replica")
    opening = 'while :; do mysql -e "SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF"; done'
    opens: list[subprocess.Popen[bytes]] = []

    def when_frozen(said: str) -> None:
        if said.endswith("is frozen"):
            words = ["docker", "exec", str(stack.node(replica).id), "timeout", "10", "bash", "-c", opening]
            opens.append(subprocess.Popen(words))

    try:
        _, verdict = drilled(stack, tmp_path, plan("pause primary"), say=when_frozen)
    finally:
        for process in opens:
            process.wait(timeout=30)

    measure("without the guard", sentence(verdict))
    assert any(wrong.startswith("acknowledged writes lost") for wrong in broken(PROMISES[1]["pause primary"], verdict))
