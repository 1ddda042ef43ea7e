"""Every fault bites, as seen from another container, and `make heal` undoes it and says so."""

import subprocess
import time
from functools import partial

import pytest

from ladder import packets
from ladder.engine import client
from ladder.faults import processes
from ladder.wait import wait_until
from tests.stack import Stack

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


def test_healing_creates_a_job_again_that_somebody_pruned(stack: Stack) -> None:
    """`docker container prune` removes what has ended."""
    stack.node("migrate").remove()
    assert stack.must("heal").splitlines() == ["migrate is created anew", "all is well"]
    assert stack.node("migrate").attrs["State"]["ExitCode"] == 0


def test_a_partition_does_not_outlive_a_restart(stack: Stack) -> None:
    """It lies in the network namespace, which goes with the container's process."""
    stack.must("partition", NODE="app1")
    stack.must("kill", NODE="app1")
    stack.must("start", NODE="app1")

    wait_until(
        lambda: seen(stack, "web1", "app1", 8000, "/healthz") == "answers", within=60, what="app1 answers web1 again"
    )
    assert "connected" not in stack.must("heal")


def sends(stack: Stack, sender: str, receiver: str) -> bool:
    """Whether a datagram of one application server reaches another."""
    # It looks when the sender has ended: what was sent is there by then, or was lost.
    listen = (
        "import socket, sys; s = socket.socket(type=2); s.bind(('', 5000)); s.settimeout(0.5); print('up', flush=True)"
        "; sys.stdin.read(); print(s.recv(9))"
    )
    command = ["docker", "exec", "--interactive", str(stack.node(receiver).id), "python3", "-c", listen]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as listener:
        assert listener.stdin
        assert listener.stdout
        listener.stdout.readline()
        speak = f"import socket; socket.socket(type=2).sendto(b'heard', ('{address(stack, receiver)}', 5000))"
        # Where nothing goes out, the sender may be told so.
        subprocess.run(
            ["docker", "exec", str(stack.node(sender).id), "python3", "-c", speak], stderr=subprocess.DEVNULL
        )
        listener.stdin.close()
        return "heard" in listener.stdout.read()


def test_a_partition_can_go_one_way(stack: Stack) -> None:
    assert stack.must("partition", NODE="app2", WAY="in").strip() == "app2 is cut off: what comes in is lost"
    assert (sends(stack, "app2", "app1"), sends(stack, "app1", "app2")) == (True, False)

    assert stack.must("partition", NODE="app2", WAY="out").strip() == "app2 is cut off: what goes out is lost"
    assert (sends(stack, "app2", "app1"), sends(stack, "app1", "app2")) == (False, True)

    assert stack.must("heal", NODE="app2").strip() == "app2 is connected again"
    assert (sends(stack, "app2", "app1"), sends(stack, "app1", "app2")) == (True, True)


CLIENT = """
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1], 8000)
for _ in sys.stdin:
    begun = time.monotonic()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    print(time.monotonic() - begun, connection.sock.getsockname()[1], flush=True)
"""
LOCAL = """
import socket, time
begun = time.monotonic()
socket.create_connection(("127.0.0.1", 8000)).close()
socket.gethostbyname("app1")
print(time.monotonic() - begun)
"""


def test_slow_delays_what_is_sent_also_on_open_connections(stack: Stack) -> None:
    command = ["docker", "exec", "--interactive", str(stack.node("app1").id), "python3", "-c", CLIENT]
    with subprocess.Popen(
        [*command, address(stack, "app2")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as asker:

        def ask() -> tuple[float, int]:
            assert asker.stdin
            assert asker.stdout
            asker.stdin.write("\n")
            seconds, port = asker.stdout.readline().split()
            return float(seconds), int(port)

        def quickest() -> float:
            """Of several: on a busy machine any one may take its time."""
            return min(ask()[0] for _ in range(4))

        _, port = ask()
        assert quickest() < 0.4
        said = stack.must("slow", NODE="app2", DELAY="0.4").strip()
        assert said == "app2 is slow: what it sends leaves 0.4 s later"
        delayed = [ask() for _ in range(3)]
        assert all(seconds >= 0.4 for seconds, _ in delayed), delayed
        assert {same for _, same in delayed} == {port}, "it was another connection"
        inside = min(float(stack.run_in("app2", "python3", "-c", LOCAL)) for _ in range(4))
        assert inside < 0.4, "loopback or the resolver was delayed"

        stack.must("slow", NODE="app2", DELAY="1")
        assert 1 <= quickest() < 1.4, "a second delay takes the place of the first"
        (helper,) = packets.helpers(stack.settings)
        host = helper.attrs["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"], host["ReadonlyRootfs"]) == (["ALL"], ["NET_ADMIN"], True)
        assert str(helper.name) not in stack.must("ps")

        helper.kill()
        assert quickest() < 0.4, "without its helper nothing may be held"
        assert stack.must("heal", NODE="app2").strip() == "app2 is quick again"
        assert quickest() < 0.4
        assert not packets.helpers(stack.settings)


def test_a_crash_meets_the_daemon_alone(stack: Stack) -> None:
    """nginx and Gunicorn are supervised; elsewhere the container ends with its daemon."""
    for node, name in (("web1", "nginx"), ("app1", "gunicorn")):
        before = processes(stack.node(node))[name]
        started = stack.node(node).attrs["State"]["StartedAt"]
        said = stack.must("crash", NODE=node).strip()
        assert said == f"{node} lost {name} (SIGKILL to process {', '.join(map(str, before))})"
        is_back = partial(replaced, stack, node, name, before)
        wait_until(is_back, within=20, what=f"{name} is there again")
        assert stack.node(node).attrs["State"]["StartedAt"] == started
    for node, name, status in (("db2", "mysqld", 137), ("dns", "nsd", 0)):
        stack.must("crash", NODE=node, PROCESS=name)
        wait_until(partial(has_ended, stack, node), within=20, what=f"{node} has ended")
        assert stack.node(node).attrs["State"]["ExitCode"] == status

    assert {"db2 is started", "dns is started", "all is well"} == set(stack.must("heal").splitlines())


def replaced(stack: Stack, node: str, name: str, before: list[int]) -> bool:
    """As many processes of a name as before, and none of those."""
    now = processes(stack.node(node)).get(name, [])
    return len(now) == len(before) and not {*now} & {*before}


def has_ended(stack: Stack, node: str) -> bool:
    return stack.node(node).status == "exited"


def test_stop_is_clean_restart_keeps_the_container_and_recreate_does_not(stack: Stack) -> None:
    assert stack.must("stop", NODE="db2").strip() == "db2 is stopped"
    stopped = stack.node("db2").attrs["State"]
    assert (stopped["Status"], stopped["ExitCode"]) == ("exited", 0), "137 would be a stop that took too long"
    assert stack.log("db2").rstrip().endswith("db2: stopped: mysqld ended with status 0")

    for verb in ("stop", "crash", "slow", "restart", "deploy"):
        assert "db2" in stack.make(verb, **({} if verb == "deploy" else {"NODE": "db2"})).stderr, "it is stopped"

    before = stack.node("web2")
    assert stack.must("restart", NODE="web2").strip() == "web2 is restarted"
    after = stack.node("web2")
    assert after.id == before.id
    assert after.attrs["State"]["StartedAt"] > before.attrs["State"]["StartedAt"]

    before = stack.node("app2")
    assert stack.must("recreate", NODE="app2").strip() == "app2 is a new container"
    assert stack.node("app2").id != before.id
    assert stack.node("app2").status == "running"

    assert stack.must("heal").splitlines() == ["db2 is started", "all is well"]


def test_a_wiped_replica_is_empty_and_fills_itself(stack: Stack) -> None:
    volume = f"{stack.settings.project}_db2"
    if stack.holder("replica") != "db2":
        pytest.fail("db2 is expected to be the replica after the stage came up")
    made = client().volumes.get(volume).attrs["CreatedAt"]
    assert stack.must("wipe", NODE="replica").strip() == "db2 has lost its disk, and is gone"
    assert volume not in [found.name for found in client().volumes.list()]
    assert "db2 has no container" in stack.make("kill", NODE="db2").stderr

    assert stack.must("heal").splitlines() == ["db2 is created anew", "all is well"]
    assert client().volumes.get(volume).attrs["CreatedAt"] > made
    wait_until(lambda: "cloning: all data of db1: this node is empty" in stack.log("db2"), within=60, what="it clones")
    wait_until(lambda: rows(stack, "db2") == rows(stack, "db1"), within=60, what="db2 has what db1 has")


def rows(stack: Stack, node: str) -> int:
    """The messages that a node has; none when it can't be asked."""
    ask = ["mysql", "-NB", "foobar", "-e", "SELECT COUNT(*) FROM messages"]
    done = subprocess.run(["docker", "exec", str(stack.node(node).id), *ask], capture_output=True, text=True)
    return int(done.stdout or -1)


@pytest.mark.stage(0)
def test_the_only_disk_lost_is_an_empty_wall(stack: Stack) -> None:
    with stack.author() as author:
        assert author.post("/api/messages", json={"body": "only here"}).status_code == 201
    # A copy that a higher stage left behind would keep the new site and the old from being one later.
    for left in client().volumes.list(filters={"name": f"{stack.settings.project}_db2"}):
        left.remove()
    stack.must("wipe", NODE="primary")

    assert stack.must("heal").splitlines() == ["db1 is created anew", "all is well"]
    stack.serves()
    with stack.visitor() as visitor:
        assert "only here" not in visitor.get("/api/messages").text
    with stack.author() as author:
        assert author.post("/api/messages", json={"body": "anew"}).status_code == 201


def test_a_power_cut_takes_all_at_once_frozen_ones_too(stack: Stack) -> None:
    stack.must("pause", NODE="web1")
    stack.must("slow", NODE="web2")
    assert stack.must("power-cut").startswith("the power is cut: edge, dns, lb1, web1, ")
    states = {node: stack.node(node).attrs["State"] for node in stack.stage.nodes}
    assert {(state["Status"], state["ExitCode"]) for state in states.values()} == {("exited", 137)}
    assert "nothing runs" in stack.make("power-cut").stderr

    said = stack.must("heal").splitlines()
    assert said == [*(f"{node} is started" for node in stack.stage.nodes), "all is well"]
    assert not packets.helpers(stack.settings), "a helper outlived its node"


def test_a_deploy_replaces_every_application_server_and_up_keeps_the_version(stack: Stack) -> None:
    def served() -> dict[str, str]:
        found: dict[str, str] = {}
        deadline = time.monotonic() + 20
        with stack.visitor() as visitor:
            while len(found) < 2 and time.monotonic() < deadline:
                answer = visitor.get("/healthz")
                found[answer.headers["X-Served-By"].rpartition(", ")[2]] = answer.headers["X-App-Version"]
        return found

    before = served()
    (old,) = set(before.values())
    new = str(int(old) + 1)
    assert f"app1 and app2 run version {new}" in stack.must("deploy")
    assert served() == {"app1": new, "app2": new}

    containers = {node: stack.node(node).id for node in stack.stage.nodes}
    stack.must("slow", NODE="web2")
    stack.must("up", STAGE="1")
    assert not packets.helpers(stack.settings), "up undoes faults"
    assert {node: stack.node(node).id for node in stack.stage.nodes} == containers
    assert served() == {"app1": new, "app2": new}


REFUSED = [
    ("wipe", {"NODE": "web1"}, "no disk of its own"),
    ("wipe", {"NODE": "server1"}, "no disk of its own"),
    ("crash", {"NODE": "web1", "PROCESS": "mysqld"}, "it runs nginx"),
    ("crash", {"NODE": "server1", "PROCESS": "nginx"}, "app1: it runs gunicorn"),
    ("slow", {"NODE": "app1", "DELAY": "0"}, "from 0.01 to 10"),
    ("partition", {"NODE": "app1", "WAY": "sideways"}, "both, in, out"),
    ("power-cut", {"NODE": "web1"}, "the whole stage"),
    ("deploy", {"NODE": "app1"}, "the whole stage"),
]


def test_what_makes_no_sense_is_refused_and_nothing_is_touched(stack: Stack) -> None:
    before = stack.starts()
    for verb, values, said in REFUSED:
        done = stack.make(verb, **values)
        assert done.returncode != 0, verb
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert stack.starts() == before
    assert not packets.helpers(stack.settings)
