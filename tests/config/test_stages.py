"""The table of stages, the Compose files and their settings say the same."""

import ipaddress
import os
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from ladder import images
from ladder.engine import compose_command
from ladder.rungs import Rendered, difference, render
from ladder.servers import counted
from ladder.settings import ROOT, STAGE_KEY, Settings
from ladder.stages import JOBS, MONITORING, MOST_SERVERS, STAGES, ZONES, Stage

Service = dict[str, Any]


def services(rendered: Rendered) -> dict[str, Service]:
    """The services of a rendered stage."""
    found: dict[str, Service] = rendered["services"]
    return found


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_the_table_is_what_compose_renders(rendered: dict[int, Rendered], stage: Stage) -> None:
    assert set(services(rendered[stage.number])) == {*stage.nodes, *JOBS}


def test_without_its_image_grafana_is_left_out_and_nothing_else(
    values: Settings, rendered: dict[int, Rendered]
) -> None:
    stage = STAGES[-1]
    left_out = replace(values, raw={**values.raw, "GRAFANA_LEFT_OUT": "without-"})
    found = services(render(left_out, stage))
    assert set(found) == {*stage.without(*left_out.left_out).nodes, *JOBS}
    assert set(services(rendered[stage.number])) - set(found) == {"grafana"}
    assert all(found[name] == services(rendered[stage.number])[name] for name in found)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_the_table_says_what_the_stages_values_switch_on(rendered: dict[int, Rendered], stage: Stage) -> None:
    found = services(rendered[stage.number])
    assert (found["lb1"]["environment"]["HTTPS"] == "on" if "lb1" in found else False) == stage.https
    assert (found["app1"]["environment"]["COOKIE_SECURE"] == "true") == stage.https
    assert all((found[node]["environment"]["PAIR"] == "on") == stage.paired for node in stage.balancers)
    assert (found["web1"]["environment"]["FIREWALL"] == "on") == stage.firewalls
    assert found["web1"]["environment"]["APP_SERVER"] == ("" if stage.apart else "app1")
    if "lb1" in found:
        assert int(found["lb1"]["environment"]["WEB_SLOTS"]) == (MOST_SERVERS if stage.apart else 2)
    assert {service["logging"]["driver"] for service in found.values()} == {"syslog" if stage.logged else "json-file"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_labels_say_the_zones_and_servers_of_the_table(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        if name in JOBS:
            continue
        labels = service["labels"]
        assert labels["com.foobar.zone"] == ZONES[name], name
        group = next((s for s, m in stage.servers.items() if name in m), "")
        assert labels.get("com.foobar.server", "") == group, name
        assert service["hostname"] == name


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_every_service_is_hardened_and_bounded(rendered: dict[int, Rendered], stage: Stage) -> None:
    for name, service in services(rendered[stage.number]).items():
        assert service["cap_drop"] == ["ALL"], name
        # For the firewall, and to give them up; what the server itself keeps is seen in tests/stages/test_hardening.py.
        more = ["DAC_READ_SEARCH"] if name.startswith("lb") else []  # for the certificate's key
        # Of a pair, for keepalived and the supervisor: tests/stages/test_pair.py.
        more += ["KILL", "NET_RAW"] if name.startswith("lb") and stage.paired else []
        assert sorted(service["cap_add"]) == sorted([*more, "NET_ADMIN", "SETGID", "SETPCAP", "SETUID"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert {"max-size", "cache-max-size"} & {*service["logging"]["options"]}, name
        assert name in JOBS or service["healthcheck"]["test"], name
        assert "privileged" not in service, name
        assert "network_mode" not in service, name


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_only_the_edge_and_the_boards_publish_ports_and_on_loopback(
    rendered: dict[int, Rendered], stage: Stage
) -> None:
    for name, service in services(rendered[stage.number]).items():
        for port in service.get("ports", []):
            assert name in ("edge", "prometheus", "grafana")
            assert port["host_ip"] == "127.0.0.1"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_zones_are_kept_apart(rendered: dict[int, Rendered], stage: Stage) -> None:
    allowed = {
        "access": {"edge", "blackbox-exporter"},
        "edge": {"edge", "dns", "lb1", "lb2", "agent-edge", "blackbox-exporter"},
        "web": {"edge", "lb1", "lb2", "web1", "web2", "app1", "app2", "agent-web", "nginx-exporter"},
        "data": {"app1", "app2", "db1", "db2", "migrate", "agent-data", "mysqld-exporter"},
        "mgmt": {"agent-edge", "agent-web", "agent-data", "prometheus", "node-exporter", "alertmanager", "pager"}
        | {"grafana", "logs"},
        "operator": {"prometheus", "alertmanager", "grafana"},
    }
    for name, service in services(rendered[stage.number]).items():
        for network in service["networks"]:
            assert name in allowed[network], f"{name} is in {network}"
    for network in {"data", "mgmt"} & set(rendered[stage.number]["networks"]):
        assert rendered[stage.number]["networks"][network]["internal"] is True


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
    assert found["lb1"] == found["lb2"] == {"site_certificate"}
    assert found["mysqld-exporter"] == {"mysql_monitoring_password"}
    assert found["prometheus"] == {"remote_write_password", "remote_write_url", "host_ca"}
    assert found["alertmanager"] == {"alert_webhook_url", "host_ca"}
    assert found["blackbox-exporter"] == {"site_authority"}
    watching = set(MONITORING) - {"mysqld-exporter", "prometheus", "alertmanager", "blackbox-exporter"}
    assert not any(found[name] for name in (*watching, "edge", "dns", "web1", "web2"))


@pytest.mark.parametrize("which", ["FRONT_DOOR", "SECOND_DOOR"])
def test_a_door_of_a_pair_is_nobodys_own_address(values: Settings, which: str) -> None:
    """And one that the policies know: in the edge zone, where both balancers are."""
    for stage in (stage for stage in STAGES if stage.paired):
        rendered = render(replace(values, raw={**values.raw, "LB_CLUSTER": "active-active"}), stage)
        found = services(rendered)
        (door,) = {service["environment"][which] for service in found.values() if which in service["environment"]}
        networks = [network for service in found.values() for network in service["networks"].values() if network]
        assert door not in {network.get("ipv4_address") for network in networks}
        edge = rendered["networks"]["edge"]["ipam"]["config"][0]
        assert ipaddress.ip_address(door) in ipaddress.ip_network(edge["subnet"])
        assert ipaddress.ip_address(door) not in ipaddress.ip_network(edge["ip_range"])


def test_a_second_address_is_of_stage_3_alone_and_concerns_who_has_to_do_with_it(
    values: Settings, rendered: dict[int, Rendered]
) -> None:
    """LB_CLUSTER=active-active is an address more, for the balancers, the edge and the name server."""
    both = replace(values, raw={**values.raw, "LB_CLUSTER": "active-active"})
    for stage in STAGES:
        one, two = services(rendered[stage.number]), services(render(both, stage))
        differing = {name for name in one.keys() | two.keys() if one.get(name) != two.get(name)}
        assert differing == ({"lb1", "lb2", "edge", "dns"} if stage.paired else set())
        for name in differing:
            environment = one[name]["environment"] | {"SECOND_DOOR": f"{values.subnet_prefix}.1.9"}
            assert two[name] == one[name] | {"environment": environment}
    reserved = rendered[STAGES[-1].number]["networks"]["access"]["ipam"]["config"][0]["aux_addresses"]
    assert {*reserved.values()} == {f"{values.subnet_prefix}.0.{number}" for number in (3, 4)}


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


def test_the_engine_brings_lines_to_the_collector_and_waits_for_nobody(rendered: dict[int, Rendered]) -> None:
    stage = next(stage for stage in STAGES if stage.logged)
    found = services(rendered[stage.number])
    address = found["logs"]["networks"]["mgmt"]["ipv4_address"]
    for name, service in found.items():
        assert service["logging"]["options"]["syslog-address"] == f"udp://{address}:514", name
        assert service["logging"]["options"]["mode"] == "non-blocking", name


def test_the_edges_access_network_sorts_before_its_others(rendered: dict[int, Rendered]) -> None:
    """Engines before 28 take the default route of a container from its first network by name."""
    assert min(services(rendered[0])["edge"]["networks"]) == "access"


def test_another_prefix_and_name_share_nothing_with_the_defaults(values: Settings) -> None:
    def addresses(prefix: str, project: str, port: str) -> str:
        environment = values.environment("stage1") | {
            "SUBNET_PREFIX": prefix,
            "COMPOSE_PROJECT_NAME": project,
            "HTTP_PORT": port,
            "HTTPS_PORT": "2" + port,
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


@pytest.mark.parametrize(("web", "app"), [(1, 1), (2, 2), (3, 4), (1, 3)])
def test_tiers_grow_and_shrink_where_they_are_apart(values: Settings, web: int, app: int) -> None:
    """Servers beyond the second are like the second; where tiers are not apart, nothing changes."""
    try:
        scaled = counted(values, web, app)
        for stage in STAGES:
            found = services(render(scaled, stage))
            nodes = stage.scaled(web, app).without(*scaled.left_out).nodes
            assert set(found) - {*JOBS} == set(nodes), stage.number
        for kind, count in (("web", web), ("app", app)):
            for number in range(3, count + 1):
                last, second = found[f"{kind}{number}"], services(render(values, STAGES[-1]))[f"{kind}2"]
                differing = {key for key in last.keys() | second.keys() if last.get(key) != second.get(key)}
                assert differing <= {"profiles", "hostname", "labels", "environment"}, differing
                assert last["hostname"] == f"{kind}{number}"
                given = {name: value for name, value in last["environment"].items() if value}
                assert given == {name: value for name, value in second["environment"].items() if value}
    finally:
        values.scratch("more.yaml").unlink(missing_ok=True)


def test_the_balancers_keep_as_many_places_as_a_tier_may_have_servers(rendered: dict[int, Rendered]) -> None:
    for stage in STAGES:
        for node in stage.balancers:
            places = services(rendered[stage.number])[node]["environment"]["WEB_SLOTS"]
            assert int(places) == (MOST_SERVERS if stage.apart else len(stage.of("web")))


def test_a_diff_fits_a_screen(values: Settings) -> None:
    for stage in STAGES[1:]:
        lines = "\n".join(difference(values, stage)).splitlines()
        assert 2 < len(lines) <= 40, "\n".join(lines)


@pytest.mark.parametrize("number", [0, 1])
def test_a_stage_waits_for_no_base_image_that_only_a_higher_one_has(
    values: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked: list[str] = []

    def is_here(image: str) -> bool:
        asked.append(image)
        return True

    monkeypatch.setattr(images, "is_here", is_here)
    images.ensure_base_images(values, STAGES[number])
    assert asked == ["debian:sid-slim", "debian:trixie-slim"]
