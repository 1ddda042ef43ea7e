"""What the workbench says: its tables, and its answers to mistakes – a sentence, the mending command, nothing lost."""

import re
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from docker.transport import UnixHTTPAdapter
from docker.types import IPAMConfig, IPAMPool

from ladder.credentials import FOLDER
from ladder.engine import client
from ladder.settings import ROOT
from ladder.stages import SERVERS, ZONES
from tests.stack import Stack, file_with


def refused(stack: Stack, verb: str, **values: str) -> str:
    """What a command says that has to fail: few words, no traceback, and nothing has changed."""
    before = stack.starts()
    done = stack.make(verb, **values)
    said = done.stderr
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in said + done.stdout
    assert "ladder: " in said
    assert len(said.splitlines()) < 25
    assert stack.starts() == before, "containers were touched"
    return said


@pytest.mark.stage(0, 1)
def test_ps_shows_servers_zones_roles_and_health(stack: Stack) -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in stack.must("ps").splitlines() if "│" in line]

    assert [row[0] for row in rows] == list(stack.stage.nodes)
    for node, server, zone, role, state in rows:
        assert node in SERVERS.get(server, ()) or (server == "" and all(node not in m for m in SERVERS.values()))
        assert zone == ZONES[node]
        assert role
        assert state == "healthy"
    assert [row[3] for row in rows if row[2] == "data"].count("primary") == 1


@pytest.mark.stage(1)
def test_ps_shows_what_is_broken(stack: Stack) -> None:
    stack.must("kill", NODE="web2")
    stack.must("pause", NODE="app2")
    said = {line.split("│")[1].strip(): line for line in stack.must("ps").splitlines() if "│" in line}

    assert "exited" in said["web2"]
    assert "paused" in said["app2"]
    assert "healthy" in said["web1"]


@pytest.mark.stage(0, 1)
def test_logs_of_one_node_and_of_all(stack: Stack) -> None:
    mark = f"/static/{uuid.uuid4().hex}"
    with stack.visitor() as visitor:
        for _ in range(4):
            visitor.get(mark)
        server = visitor.get(mark).headers["X-Served-By"].split(", ")[-1]
    assert server.startswith("web")

    one, every = stack.must("logs", NODE=server), stack.must("logs")

    assert '"server":"' + server in one
    assert "db1" in every
    assert "web1" in every
    assert "edge: visitors go to" in stack.must("logs", NODE="edge")


@pytest.mark.stage(0)
def test_diff_shows_what_a_rung_adds_on_about_one_screen(stack: Stack) -> None:
    said = stack.must("diff", STAGE="1")

    lines = said.splitlines()
    assert len(lines) <= 60
    for word in ("lb1", "web2", "app2", "db2", "volumes.db2", "DB_NODES"):
        assert word in said
    for line in lines:
        assert not re.match(r"- services", line), "a rung adds, it takes nothing away"
    assert "first" in stack.must("diff", STAGE="0")


@pytest.mark.stage(0)
@pytest.mark.parametrize("verb", ["up", "diff"])
@pytest.mark.parametrize("stage_", ["", "7", "one", "-1", "stage9", "../x"])
def test_unknown_stage(stack: Stack, verb: str, stage_: str) -> None:
    said = refused(stack, verb, STAGE=stage_)

    assert "make up STAGE=1" in said
    assert "0 (simple)" in said
    assert "1 (distributed)" in said


@pytest.mark.stage(0, 1)
@pytest.mark.parametrize("verb", ["kill", "start", "crash", "partition", "slow", "recreate"])
def test_unknown_and_missing_node(stack: Stack, verb: str) -> None:
    assert "NODE=" in refused(stack, verb)
    said = refused(stack, verb, NODE="web9")
    assert "web9" in said
    assert all(node in said for node in stack.stage.nodes)


@pytest.mark.stage(0)
def test_a_node_of_another_stage_is_unknown_here(stack: Stack) -> None:
    for name in ("lb1", "server2", "web2", "replica"):
        refused(stack, "kill", NODE=name)


@pytest.mark.stage(1)
def test_faults_that_make_no_sense(stack: Stack) -> None:
    stack.must("kill", NODE="web2")
    for verb in ("kill", "pause", "unpause", "partition"):
        assert "web2" in refused(stack, verb, NODE="web2")
    # Nothing is done to a server when one of its members can't take it.
    refused(stack, "kill", NODE="server2")
    assert stack.node("app2").status == "running"
    refused(stack, "start", NODE="web1")
    refused(stack, "unpause", NODE="web1")


@pytest.mark.stage(0)
def test_port_in_use(stack: Stack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for name in ("HTTP_PORT", "HTTPS_PORT", "DNS_PORT"):
            said = refused(stack, "up", STAGE="0", **{name: str(port)})
            assert f"127.0.0.1:{port}" in said
            assert f"{name}=" in said


@pytest.mark.stage(2)
def test_port_of_the_collector_in_use(stack: Stack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(stack, "up", STAGE="2", PROMETHEUS_PORT=str(port))
    assert f"127.0.0.1:{port}" in said
    assert "PROMETHEUS_PORT=" in said


@pytest.mark.stage(2)
@pytest.mark.parametrize(
    ("file", "line"), [("alerts.yml", "      - alert: SiteDown\n"), ("alertmanager.yml", "route:\n")]
)
def test_a_broken_file_of_the_monitoring_is_named_and_the_site_goes_on(stack: Stack, file: str, line: str) -> None:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    with file_with(ROOT / "prometheus" / file, line, f"{line}{indent}nonsense: 1\n"):
        said = " ".join(refused(stack, "up", STAGE="2").split())
    assert f"ladder: prometheus/{file} is wrong; nothing was changed: " in said
    assert "field nonsense not found" in said
    with stack.visitor() as visitor:
        assert visitor.get("/").status_code == 200


@pytest.mark.stage(0)
def test_subnet_in_use(stack: Stack) -> None:
    number = int(stack.settings.subnet_prefix.split(".")[1])
    taken = f"10.{number - 40}"
    pool = IPAMPool(subnet=f"{taken}.2.0/26")
    network = client().networks.create(
        f"{stack.settings.project}-in-the-way",
        driver="bridge",
        ipam=IPAMConfig(pool_configs=[pool]),
    )
    try:
        said = refused(stack, "up", STAGE="0", SUBNET_PREFIX=taken)
    finally:
        network.remove()
    assert str(network.name) in said
    assert "SUBNET_PREFIX=" in said


@pytest.mark.stage(0)
def test_all_wrong_values_are_named_at_once(stack: Stack) -> None:
    said = refused(stack, "up", STAGE="0", HTTP_PORT="http", SUBNET_PREFIX="8.8", APP_THREADS="0", BIND_ADDRESS="here")

    for name in ("HTTP_PORT", "SUBNET_PREFIX", "APP_THREADS", "BIND_ADDRESS"):
        assert name in said


@contextmanager
def damaged(name: str, text: str | None) -> Iterator[None]:
    """A secret file with another content, or none, for a moment."""
    path = FOLDER / name
    kept = path.with_name(name + ".kept-by-a-test")
    path.rename(kept)
    try:
        if text is not None:
            path.write_text(text)
        yield
    finally:
        kept.replace(path)


@pytest.mark.stage(0)
@pytest.mark.parametrize("text", ["", "short", "two words that are long enough", "ümläut-ümläut-ümläut"])
def test_damaged_secret(stack: Stack, text: str) -> None:
    with damaged("mysql_app_password", text):
        said = refused(stack, "up", STAGE="0")

    assert "secrets/mysql_app_password" in said
    assert "make wipe" in said


@pytest.mark.stage(1)
def test_another_command_at_work(stack: Stack) -> None:
    """Two commands that change a stack don't mix; the second says so."""
    with subprocess.Popen(
        ["make", "--silent", "up", f"STAGE={stack.stage.number}"],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as first:
        assert first.stdout
        first.stdout.readline()
        done = stack.make("kill", NODE="web1")
        first.stdout.read()

    assert done.returncode != 0
    assert "`make up` is at work on this stack" in done.stderr
    assert stack.starts() == stack.since


def test_the_engine_keeps_a_connection_open_however_many_paths_are_asked() -> None:
    asked = client().api
    adapter = asked.get_adapter(asked.base_url)
    assert isinstance(adapter, UnixHTTPAdapter)
    first = adapter.get_connection(f"{asked.base_url}/containers/json")
    for number in range(100):
        adapter.get_connection(f"{asked.base_url}/containers/{number}/json")
    assert first.pool is not None
