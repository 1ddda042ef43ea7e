"""The guards are what saves the reader: with the guard off, the same fault under the same traffic is noticed.

House rule: a test that can't fail is a defect. tests/faults/test_redundant.py is the same with the guards on.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.conftest import Measure, Stack, free_port
from tests.traffic import READS, Traffic

pytestmark = pytest.mark.stage(1)

GUARDS = {
    r"^    retries \d+$": "    retries 0",
    r"^    option redispatch.*$": "    no option redispatch",
    r"^    retry-on .*$": "    retry-on none",
}
"""The lines of haproxy.cfg that retry and redispatch, and what they are without."""


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
def readers(port: int) -> Iterator[Traffic]:
    """Steady readers of a server that answers already."""
    wait_until(lambda: answers(port), within=60, what=f"port {port} answers")
    traffic = Traffic("127.0.0.1", port, "", reads=READS, writes=0)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_without_retries_and_redispatch_the_death_of_a_web_server_is_noticed(stack: Stack, measure: Measure) -> None:
    """A second balancer, from the same image, with the three lines changed; health checks stay as they are."""
    text = (ROOT / "haproxy/haproxy.cfg").read_text()
    for guard, without in GUARDS.items():
        text, times = re.subn(guard, without, text, flags=re.MULTILINE)
        assert times == 1, f"haproxy.cfg no longer has this line: {guard}"
    port = free_port()
    project = stack.settings.project
    balancer = stack.node("lb1").attrs["Config"]
    words = [word for value in balancer["Env"] if value.startswith("LB_") for word in ("--env", value)]
    script = 'printf %s "$CONFIG" >/tmp/haproxy.cfg && exec haproxy -W -db -f /tmp/haproxy.cfg'
    start = ["run", "--detach", "--hostname=unguarded", f"--network={project}_web", f"--publish=127.0.0.1:{port}:80"]
    start += [*words, "--env", f"CONFIG={text}", "--entrypoint=sh", f"{project}/lb", "-c", script]
    with running(stack, *start), readers(port) as traffic:
        stack.must("kill", NODE="web1")
        traffic.more("read", 60)
        history = traffic.stop()

    measure("without the guard", history.summary())
    assert all(request.served_by.startswith("unguarded") for request in history.of("read", "ok"))
    assert history.bad("read"), "the guard is off and nobody noticed: then something else saves the reader"


def test_without_another_node_to_read_from_the_death_of_the_replica_is_noticed(stack: Stack, measure: Measure) -> None:
    """A third application server that knows of the replica alone, so that no read can fall back to the primary."""
    port = free_port()
    start = ["compose", "run", "--detach", "--no-deps", "--env", f"DB_NODES={stack.holder('replica')}"]
    start += ["--publish", f"127.0.0.1:{port}:8000", "app2"]
    with running(stack, *start), readers(port) as traffic:
        stack.must("kill", NODE="replica")
        traffic.more("read", 60)
        history = traffic.stop()

    measure("without the guard", history.summary())
    assert history.bad("read"), "the guard is off and nobody noticed: then something else saves the reader"
    assert {request.status for request in history.bad("read")} == {503}
