"""How little a server may do, as the kernel and the engine tell it: a fact of the running stage, not a setting."""

import json
import subprocess

import pytest

from ladder.certificates import ROOT_KEY, SITE
from ladder.credentials import FOLDER, NAMES
from ladder.engine import containers
from ladder.stages import JOBS
from ladder.wait import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.stage(0, 1, 2)


def first_process(stack: Stack, node: str) -> dict[str, str]:
    """/proc/1/status as the container sees it."""
    said = stack.run_in(node, "cat", "/proc/1/status")
    return dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)


@pytest.mark.stage(0, 1, 2, 3)
def test_no_process_is_root_or_has_a_capability(stack: Stack) -> None:
    """Nor can it ever gain one: the bounding set is empty. (What supervises a pair's balancer: test_pair.py.)"""
    for node in stack.stage.nodes:
        if stack.stage.paired and node in stack.stage.balancers:
            continue
        said = first_process(stack, node)
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert int(said[name], 16) == 0, (node, name)
        assert said["NoNewPrivs"].strip() == "1", node
        assert "0" not in said["Uid"].split() + said["Gid"].split(), node


@pytest.mark.stage(0, 1, 2, 3)
def test_every_container_has_little_and_is_well(stack: Stack) -> None:
    for name, container in containers(stack.settings).items():
        host = container.attrs["HostConfig"]
        assert host["CapDrop"] == ["ALL"], name
        assert {"max-size", "cache-max-size"} & {*host["LogConfig"]["Config"]}, name

    def unwell() -> list[str]:
        """A server that a test before this one broke is asked by the engine again within seconds."""
        found = {name: each.attrs["State"] for name, each in containers(stack.settings).items() if name not in JOBS}
        return [name for name, state in found.items() if state["Health"]["Status"] != "healthy"]

    wait_until(lambda: not unwell(), within=60, what="all are healthy", hint=lambda: ", ".join(unwell()))


def test_the_memory_of_password_hashes_is_given_back(stack: Stack) -> None:
    """Each takes 19 MiB for a moment. Kept, a few of them bring an application server to its limit."""

    def private() -> int:
        script = "cat /proc/[0-9]*/status | while read -r k v _; do [ $k = RssAnon: ] && echo $v; done; true"
        return sum(int(size) for size in stack.run_in("app1", "bash", "-c", script).split())

    before = private()
    for _ in range(24):
        stack.author().close()

    assert private() - before < 19 * 1024, "in KiB"


@pytest.mark.stage(0, 1, 2, 3)
def test_nothing_but_memory_and_data_can_be_written(stack: Stack) -> None:
    for node in stack.stage.nodes:
        refused = subprocess.run(
            ["docker", "exec", str(stack.node(node).id), "sh", "-c", "echo x > /etc/x || echo x > /usr/x"],
            capture_output=True,
            text=True,
        )
        assert refused.returncode != 0, node


@pytest.mark.stage(0, 1, 2, 3)
def test_only_the_edge_and_what_people_look_at_publish_ports_and_only_on_the_chosen_address(stack: Stack) -> None:
    published = {
        (name, port, binding["HostIp"], int(binding["HostPort"]))
        for name, container in containers(stack.settings).items()
        for port, bindings in container.ports.items()
        for binding in bindings or []
    }

    looked_at = {
        ("prometheus", "9090/tcp", "127.0.0.1", stack.settings.prometheus_port),
        ("grafana", "3000/tcp", "127.0.0.1", stack.settings.grafana_port),
    }
    assert published == {door for door in looked_at if door[0] in stack.stage.nodes} | {
        ("edge", "80/tcp", "127.0.0.1", stack.settings.http_port),
        ("edge", "443/tcp", "127.0.0.1", stack.settings.https_port),
        ("edge", "443/udp", "127.0.0.1", stack.settings.https_port),
        ("edge", "53/tcp", "127.0.0.1", stack.settings.dns_port),
        ("edge", "53/udp", "127.0.0.1", stack.settings.dns_port),
    }


def test_no_secret_is_in_environments_images_or_logs(stack: Stack) -> None:
    values = [(FOLDER / name).read_text().strip() for name in NAMES]
    values += [line for key in (ROOT_KEY, SITE) for line in key.read_text().splitlines()[-3:-1]]
    assert all(len(value) >= 16 for value in values)

    for name, container in containers(stack.settings).items():
        image = container.image
        assert image is not None
        places = {
            "docker inspect": json.dumps(container.attrs),
            "image history": json.dumps(image.history()) + json.dumps(image.attrs),
            "log": container.logs().decode(errors="replace"),
        }
        for place, said in places.items():
            assert not any(value in said for value in values), f"a secret is in the {place} of {name}"


@pytest.mark.stage(0, 1, 2, 3)
def test_a_server_has_only_the_secrets_it_needs(stack: Stack) -> None:
    wanted = {
        "lb": {"site_certificate"},
        "blackbox-exporter": {"site_authority"},
        "app": {"mysql_app_password", "mysql_monitoring_password", "app_session_key"},
        "db": set(NAMES) - {"app_session_key"},
        "mysqld-exporter": {"mysql_monitoring_password"},
        "prometheus": {"remote_write_password", "remote_write_url", "host_ca"},
        "alertmanager": {"alert_webhook_url", "host_ca"},
    }

    for node in stack.stage.nodes:
        kind = node.rstrip("0123456789")
        found = stack.run_in(node, "sh", "-c", "ls /run/secrets 2>/dev/null || true").split()
        assert set(found) == wanted.get(kind, set()), node


def test_secret_files_are_closed_to_other_users_of_the_machine(stack: Stack) -> None:
    assert FOLDER.stat().st_mode & 0o777 == 0o700
    for key in (ROOT_KEY, SITE):
        assert key.stat().st_mode & 0o777 == 0o600, key


@pytest.mark.stage(0, 1)
def test_zones_are_kept_apart(stack: Stack) -> None:
    """Only an application server is in the web zone and in that of the data; nothing else leads from one to the other.

    On these stages the engine alone keeps them apart.
    """
    project = stack.settings.project

    def address(node: str, zone: str) -> str:
        return str(stack.node(node).attrs["NetworkSettings"]["Networks"][f"{project}_{zone}"]["IPAddress"])

    def reaches(node: str, host: str, port: int) -> bool:
        ask = ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
        return subprocess.run(["docker", "exec", str(stack.node(node).id), *ask], capture_output=True).returncode == 0

    database, web = address("db1", "data"), address("web1", "web")
    assert reaches("app1", database, 3306)
    assert reaches("app1", web, 80)
    assert not reaches("web1", database, 3306)
    assert not reaches("db1", web, 80)
    assert not reaches("db1", f"{stack.settings.subnet_prefix}.0.2", 80)
