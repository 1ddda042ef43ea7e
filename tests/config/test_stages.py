"""The table of stages, the Compose files and their settings say the same."""

import ipaddress
import os
import subprocess
from typing import Any

import pytest

from ladder.engine import compose_command
from ladder.rungs import Rendered, difference
from ladder.settings import ROOT, STAGE_KEY, Settings
from ladder.stages import JOBS, SERVERS, STAGES, ZONES, Stage

Service = dict[str, Any]


def services(rendered: Rendered) -> dict[str, Service]:
    """The services of a rendered stage."""
    found: dict[str, Service] = rendered["services"]
    return found


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_the_table_is_what_compose_renders(rendered: dict[int, Rendered], stage: Stage) -> None:
    assert set(services(rendered[stage.number])) == {*stage.nodes, *JOBS}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_labels_say_the_zones_and_servers_of_the_table(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        if name in JOBS:
            continue
        labels = service["labels"]
        assert labels["com.foobar.zone"] == ZONES[name], name
        assert labels.get("com.foobar.server") == next((s for s, m in SERVERS.items() if name in m), None), name
        assert service["hostname"] == name


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_every_service_is_hardened_and_bounded(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        assert service["cap_drop"] == ["ALL"], name
        # For the firewall, and to give them up; what the server itself keeps is seen in tests/stages/test_hardening.py.
        assert sorted(service["cap_add"]) == ["NET_ADMIN", "SETGID", "SETPCAP", "SETUID"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert name in JOBS or service["healthcheck"]["test"], name
        assert "privileged" not in service, name
        assert "network_mode" not in service, name


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_only_the_edge_publishes_ports_and_on_loopback(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        for port in service.get("ports", []):
            assert name == "edge"
            assert port["host_ip"] == "127.0.0.1"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_zones_are_kept_apart(rendered: dict[int, Rendered], stage: Stage) -> None:
    allowed = {
        "access": {"edge"},
        "edge": {"edge", "dns", "lb1"},
        "web": {"edge", "lb1", "web1", "web2", "app1", "app2"},
        "data": {"app1", "app2", "db1", "db2", "migrate"},
    }
    for name, service in services(rendered[stage.number]).items():
        for network in service["networks"]:
            assert name in allowed[network], f"{name} is in {network}"
    assert rendered[stage.number]["networks"]["data"]["internal"] is True


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_no_secret_is_in_an_environment(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        for variable in service.get("environment", {}):
            assert not any(word in variable for word in ("PASSWORD", "SECRET", "KEY", "TOKEN")), (name, variable)


def test_each_part_gets_only_the_secrets_it_needs(rendered: dict[int, Rendered]) -> None:
    found = {
        name: {secret["source"] for secret in service.get("secrets", [])}
        for name, service in services(rendered[STAGES[-1].number]).items()
    }
    app = {"mysql_app_password", "mysql_monitoring_password", "app_session_key"}
    assert found["app1"] == found["app2"] == app
    assert found["migrate"] == {"mysql_migration_password"}
    assert not any(found[name] for name in ("edge", "dns", "lb1", "web1", "web2"))


def test_fixed_addresses_are_outside_dockers_own_choice(rendered: dict[int, Rendered]) -> None:
    networks = rendered[STAGES[-1].number]["networks"]
    for name, service in services(rendered[STAGES[-1].number]).items():
        for network, attachment in service["networks"].items():
            if not (attachment and "ipv4_address" in attachment):
                continue
            (config,) = networks[network]["ipam"]["config"]
            address = ipaddress.ip_address(attachment["ipv4_address"])
            assert address in ipaddress.ip_network(config["subnet"])
            if "ip_range" in config:
                assert address not in ipaddress.ip_network(config["ip_range"]), name


def test_the_edges_access_network_sorts_before_its_others(rendered: dict[int, Rendered]) -> None:
    """Engines before 28 take the default route of a container from its first network by name."""
    assert min(services(rendered[0])["edge"]["networks"]) == "access"


def test_another_prefix_and_name_share_nothing_with_the_defaults(values: Settings) -> None:
    def addresses(prefix: str, project: str, port: str) -> str:
        environment = values.environment("stage1") | {
            "SUBNET_PREFIX": prefix,
            "COMPOSE_PROJECT_NAME": project,
            "HTTP_PORT": port,
            "DNS_PORT": "1" + port,
        }
        done = subprocess.run(compose_command("config"), cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    other = addresses("172.30", "second", "8081")
    assert "10.80" not in other
    assert values.project not in other
    assert "second_web" in other


def test_compose_without_a_stage_says_how_to_choose_one() -> None:
    environment = {k: v for k, v in os.environ.items() if k != STAGE_KEY} | {"COMPOSE_ENV_FILES": "/dev/null"}
    done = subprocess.run(compose_command("config"), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "make up STAGE=1" in done.stderr


def test_a_diff_fits_a_screen(values: Settings) -> None:
    for stage in STAGES[1:]:
        lines = "\n".join(difference(values, stage)).splitlines()
        assert 2 < len(lines) <= 40, "\n".join(lines)
