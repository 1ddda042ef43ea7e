"""Every file passes its own checker, in the image that will read it."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ladder.lock import FOLDERS
from ladder.settings import ROOT, Settings
from ladder.stages import Stage
from pki.certificates import make_leaf, make_root

BIN = Path(sys.executable).parent


def run(*command: str | Path) -> str:
    """Run a checker; its complaint is the failure."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(words[:6])} …\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def tracked(*patterns: str) -> list[str]:
    """The files that git knows or would take, by pattern."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns)
    return sorted(line for line in set(listed.splitlines()) if (ROOT / line).is_file())


def in_image(values: Settings, image: str, *command: str, **environment: str) -> str:
    """Run a command in one of the project's images, without a network and with its environment."""
    given = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    return run(
        *("docker", "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--tmpfs=/run", *given),
        *("--entrypoint", command[0], f"{values.project}/{image}", *command[1:]),
    )


@pytest.mark.parametrize("algorithm", ["roundrobin", "leastconn", "source"])
@pytest.mark.parametrize("mode", ["active-active", "active-passive"])
def test_haproxy_accepts_its_configuration(built: Stage, values: Settings, algorithm: str, mode: str) -> None:
    file = "/etc/haproxy/haproxy.cfg"
    in_image(values, "lb", "haproxy", "-c", "-f", file, LB_ALGORITHM=algorithm, LB_MODE=mode, HOSTNAME="lb1")


@pytest.mark.parametrize("cluster", ["active-passive", "active-active"])
def test_haproxy_and_keepalived_accept_their_configuration_of_a_pair(
    built: Stage, values: Settings, cluster: str
) -> None:
    doors = {"FRONT_DOOR": "10.80.1.10", "SECOND_DOOR": "10.80.1.9" if cluster == "active-active" else ""}
    environment = {"LB_ALGORITHM": "roundrobin", "LB_MODE": "active-active", "LB_REQUESTS": "20000", "PAIR": "on"}
    environment |= {"SUBNET_PREFIX": "10.80", "HOSTNAME": "lb1", "HTTPS": "off", "HTTPS_PORT": "443"}
    in_image(values, "lb", "haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg", "-L", "lb1", **environment, **doors)

    particular = {"HOSTNAME": "lb1", "INTERFACE": "eth0", "OWN": "10.80.1.11", "OTHER": "10.80.1.12"}
    particular |= {"FIRST_PRIORITY": "240", "SECOND_PRIORITY": "200"}
    words = "; ".join(f"s/@{name}@/{value}/" for name, value in (particular | doors).items())
    file = f"/etc/keepalived/keepalived{'-active-active' if doors['SECOND_DOOR'] else ''}.conf"
    check = "mkdir /run/pair && echo 0 >/run/pair/balancer && "
    check += f"sed '{words}' {file} | tee /run/keepalived.conf && "
    check += "exec keepalived --config-test --use-file=/run/keepalived.conf"
    # It asks for the interface, so there has to be one.
    image = f"{values.project}/lb"
    said = run("docker", "run", "--rm", "--read-only", "--tmpfs=/run", "--entrypoint=sh", image, "-c", check)
    held = re.findall(r"^        ([\d.]+)/32$", said, re.MULTILINE)
    assert held == [door for door in doors.values() if door]
    # It goes home, or stays where it is.
    assert len(re.findall(r"^    nopreempt$", said, re.MULTILINE)) == (len(held) == 1)
    assert re.findall(r"^    priority (\d+)$", said, re.MULTILINE) == (["240", "200"] if len(held) > 1 else ["240"])


@pytest.mark.parametrize("port", ["443", "8443"])
def test_haproxy_accepts_its_configuration_with_https(built: Stage, values: Settings, port: str) -> None:
    now = datetime.now(UTC)
    pair = make_leaf(make_root(now), now)
    check = 'printf %s "$PEM" >/run/site.pem && exec haproxy -c -f /etc/haproxy/haproxy.cfg'
    environment = {"HTTPS": "on", "HTTPS_PORT": port, "PEM": (pair.chain + pair.key).decode(), "HOSTNAME": "lb1"}
    in_image(values, "lb", "sh", "-c", check, LB_ALGORITHM="roundrobin", LB_MODE="active-active", **environment)


def test_haproxy_keeps_a_place_for_each_web_server_that_there_may_be(built: Stage, values: Settings) -> None:
    load = "config-load && haproxy -c -f /run/haproxy.cfg && grep '^    server ' /run/haproxy.cfg"
    environment = {"LB_ALGORITHM": "roundrobin", "HOSTNAME": "lb1", "WEB_SLOTS": "4"}
    for mode, last in (("active-active", "web4:80"), ("active-passive", "web4:80 backup")):
        said = in_image(values, "lb", "sh", "-c", load, LB_MODE=mode, **environment)
        assert said.rstrip().endswith(f"server web4 {last}")


def test_haproxy_refuses_what_is_wrong(built: Stage, values: Settings) -> None:
    with pytest.raises(AssertionError, match="balance"):
        in_image(values, "lb", "haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg", LB_ALGORITHM="fair", LB_MODE="x")


def test_nginx_accepts_its_configuration_without_a_warning(built: Stage, values: Settings) -> None:
    for given in ({"APP_SERVER": "app1"}, {}):  # of its own server group; any
        said = in_image(values, "web", "web-entrypoint", "-t", SUBNET_PREFIX="10.80", **given)
        assert "warn" not in said


def test_mysqld_accepts_its_configuration(built: Stage, values: Settings) -> None:
    for also in ([], ["--defaults-extra-file=/etc/mysql/semi-sync.cnf"]):
        said = in_image(values, "db", "mysqld", *also, "--validate-config")
        assert "ERROR" not in said


def test_nsd_accepts_its_configuration_and_zone(built: Stage, values: Settings) -> None:
    in_image(values, "dns", "nsd-checkconf", "/etc/nsd/nsd.conf")
    # All but becoming the name server.
    check = "sed '/^exec/d' /usr/local/bin/dns-entrypoint | sh && grep -w A /run/foobar.com.zone"
    for second, last in (("", ["2", "2"]), ("10.80.1.9", ["3", "4", "2"])):
        said = in_image(values, "dns", "sh", "-c", check, SUBNET_PREFIX="10.80", SECOND_DOOR=second)
        assert re.findall(r" A +10\.80\.0\.(\d)", said) == last


def test_rsyslog_accepts_its_configuration(built: Stage, values: Settings) -> None:
    in_image(values, "logs", "rsyslogd", "-N1")


@pytest.mark.parametrize("second", ["", "10.80.1.9"])
def test_nft_accepts_the_uplinks_rules(built: Stage, values: Settings, second: str) -> None:
    # All but to wait.
    script = "sed '/^exec/d' /usr/local/bin/edge-entrypoint | sh && nft list table ip uplink"
    given = {"SUBNET_PREFIX": "10.80", "FRONT_DOOR": "10.80.1.10", "SECOND_DOOR": second, "FIREWALL": "off"}
    said = run(
        *("docker", "run", "--rm", "--network=none", "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--entrypoint=sh"),
        *(word for name, value in given.items() for word in ("--env", f"{name}={value}")),
        *(f"{values.project}/edge", "-c", script),
    )
    # Every other visitor, and those who were told the second address.
    assert said.count("dnat to 10.80.1.9 ") == (4 if second else 0)
    assert said.count("numgen inc mod 2") == (2 if second else 0)
    assert said.count("dnat to 10.80.1.10 ") == 2


def test_a_server_that_can_not_load_its_rules_does_not_begin(built: Stage, values: Settings) -> None:
    """It lacks the right to."""
    may = ["--cap-drop=ALL", "--cap-add=SETUID", "--cap-add=SETGID", "--cap-add=SETPCAP"]
    command = ["docker", "run", "--rm", "--network=none", "--user=root", *may, "--entrypoint=server-entrypoint"]
    command += ["--env=FIREWALL=on", "--env=SUBNET_PREFIX=10.80", "--env=FRONT_DOOR=10.80.1.11", "--env=ROLE=web"]
    command += ["--env=EDGE_NEW_CONNECTIONS=200", "--env=OWN=10.80.2.11"]
    for more, begins in (["--cap-add=NET_ADMIN"], True), ([], False):
        words = [*command, *more, f"{values.project}/web", "echo", "begun"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.stdout == "begun\n", done.returncode == 0) == (begins, begins), done.stderr
        assert begins or "not permitted" in done.stderr


def test_dockerfiles_are_clean() -> None:
    run(BIN / "hadolint", "--failure-threshold=info", *tracked("*Dockerfile"))


def test_shell_scripts_are_clean() -> None:
    scripts = [
        name
        for name in tracked()
        if (ROOT / name).read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash"))
    ]
    assert "ladder/bootstrap" in scripts
    run(BIN / "shellcheck", *scripts)


def test_python_is_clean_and_formatted() -> None:
    run(BIN / "ruff", "check", "--no-cache")
    run(BIN / "ruff", "format", "--check", "--no-cache")


def test_python_is_typed() -> None:
    run(BIN / "mypy", "--cache-dir", os.devnull, "ladder", "pki", "grafana", "app/wall", "mysql/node", "tests")


def test_locks_hold_exactly_what_was_asked_for() -> None:
    """Every name of a requirements.in is in its lock, with a hash."""
    for folder in FOLDERS:
        locked = (ROOT / folder / "requirements.txt").read_text()
        for line in (ROOT / folder / "requirements.in").read_text().splitlines():
            name = re.split(r"[#<]", line)[0].strip().lower()
            if name and not name.startswith("-"):
                assert f"\n{name}==" in f"\n{locked}", f"{folder}: {name} isn't locked; run: make lock"


def test_the_tests_run_the_application_with_the_versions_of_its_image() -> None:
    def versions(folder: str) -> dict[str, str]:
        lines = (ROOT / folder / "requirements.txt").read_text().splitlines()
        pins = (line.split()[0].split("==") for line in lines if "==" in line and not line.startswith((" ", "#")))
        return dict(pins)

    ours, image = versions("tests"), versions("app")
    assert {name: ours.get(name) for name in image} == image
