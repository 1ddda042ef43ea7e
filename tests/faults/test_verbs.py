"""Every fault bites, as seen from another container, and `make heal` undoes it and says so."""

import subprocess

import pytest

from ladder.engine import client
from ladder.wait import wait_until
from tests.conftest import Stack

pytestmark = pytest.mark.stage(1)

ASK = (
    'exec 3<>/dev/tcp/$0/$1 && printf \'GET %s HTTP/1.0\\r\\n\\r\\n\' "$2" >&3 && read -r -t 2 line <&3 && echo "$line"'
)


def address(stack: Stack, node: str) -> str:
    """The container's address in the web zone; a dead one has none."""
    return str(stack.node(node).attrs["NetworkSettings"]["Networks"][f"{stack.settings.project}_web"]["IPAddress"])


def seen(stack: Stack, asker: str, host: str, port: int, path: str) -> str:
    """What one container sees of another: answers, refused, silent (connected, no answer), unreachable."""
    words = ["timeout", "4", "bash", "-c", ASK, host, str(port), path]
    done = subprocess.run(
        ["docker", "exec", str(stack.node(asker).id), *words], capture_output=True, text=True, timeout=60
    )
    if " 200 " in done.stdout:
        return "answers"
    if "refused" in done.stderr:
        return "refused"
    if "route" in done.stderr or "timed out" in done.stderr or done.returncode == 124:
        return "unreachable"
    return "silent"


def test_each_fault_bites_and_is_healed(stack: Stack) -> None:
    """app1, looked at from web1 and from itself."""
    host = address(stack, "app1")
    outside, inside = ("web1", host, 8000, "/healthz"), ("app1", "127.0.0.1", 8000, "/healthz")
    assert seen(stack, *outside) == seen(stack, *inside) == "answers"

    assert stack.must("pause", NODE="app1").strip() == "app1 is frozen"
    assert seen(stack, *outside) == "silent"
    assert stack.must("unpause", NODE="app1").strip() == "app1 is thawed"
    assert seen(stack, *outside) == "answers"

    assert stack.must("partition", NODE="app1").strip() == "app1 is cut off"
    assert seen(stack, *outside) == "unreachable"
    assert seen(stack, *inside) == "answers", "a partition is no kill: the server itself is well"
    assert "app1 is connected again" in stack.must("heal", NODE="app1")
    assert seen(stack, *outside) == "answers"

    assert stack.must("kill", NODE="app1").strip() == "app1 is killed (SIGKILL)"
    stopped = stack.node("app1").attrs["State"]
    assert (stopped["Status"], stopped["ExitCode"], stopped["OOMKilled"]) == ("exited", 137, False)
    assert seen(stack, *outside) in ("unreachable", "refused")
    assert "app1 is started" in stack.must("heal")
    assert seen(stack, "web1", "app1", 8000, "/healthz") == "answers"


def test_heal_undoes_all_faults_at_once_and_says_what_it_undid(stack: Stack) -> None:
    stack.must("kill", NODE="web1")
    stack.must("pause", NODE="app1")
    stack.must("partition", NODE="db1")

    said = stack.must("heal").splitlines()

    assert {"web1 is started", "app1 is thawed", "db1 is connected again", "all is well"} <= set(said)
    assert stack.must("heal").splitlines() == ["nothing was broken", "all is well"]
    image = client().images.get(f"{stack.settings.project}/edge").id
    left = [c.name for c in client().containers.list(all=True) if c.attrs["Image"] == image]
    assert left == [stack.node("edge").name], "a helper stayed behind"


def test_a_partition_does_not_outlive_a_restart(stack: Stack) -> None:
    """It lies in the network namespace, which goes with the container's process."""
    stack.must("partition", NODE="app1")
    stack.must("kill", NODE="app1")
    stack.must("start", NODE="app1")

    wait_until(
        lambda: seen(stack, "web1", "app1", 8000, "/healthz") == "answers", within=60, what="app1 answers web1 again"
    )
    assert "connected" not in stack.must("heal")
