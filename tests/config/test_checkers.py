"""Every file passes its own checker, in the image that will read it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ladder.settings import ROOT, Settings
from ladder.stages import Stage

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


def test_haproxy_refuses_what_is_wrong(built: Stage, values: Settings) -> None:
    with pytest.raises(AssertionError, match="balance"):
        in_image(values, "lb", "haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg", LB_ALGORITHM="fair", LB_MODE="x")


def test_nginx_accepts_its_configuration_without_a_warning(built: Stage, values: Settings) -> None:
    said = in_image(values, "web", "web-entrypoint", "-t", APP_SERVER="app1", SUBNET_PREFIX="10.80")
    assert "warn" not in said


def test_mysqld_accepts_its_configuration(built: Stage, values: Settings) -> None:
    said = in_image(values, "db", "mysqld", "--defaults-file=/etc/mysql/my.cnf", "--validate-config")
    assert "ERROR" not in said


def test_nsd_accepts_its_configuration_and_zone(built: Stage, values: Settings) -> None:
    in_image(values, "dns", "nsd-checkconf", "/etc/nsd/nsd.conf")
    in_image(values, "dns", "sh", "-c", "sed s/@EDGE@/10.80.0.2/ /etc/nsd/foobar.com.zone | nsd-checkzone foobar.com -")


def test_nft_accepts_the_uplinks_rules(built: Stage, values: Settings) -> None:
    defines = [f"--define={name}={value}" for name, value in DEFINES.items()]
    run(
        *("docker", "run", "--rm", "--network=none", "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--entrypoint=nft"),
        *(f"{values.project}/edge", "--check", *defines, "--file", "/etc/nftables/uplink.nft"),
    )


DEFINES = {"edge": "10.80.0.2", "dns": "10.80.1.53", "front_door": "10.80.1.11"}


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
    run(BIN / "mypy", "--cache-dir", os.devnull, "ladder", "app/wall", "mysql/node", "tests")


def test_locks_hold_exactly_what_was_asked_for() -> None:
    """Every name of a requirements.in is in its lock, with a hash."""
    for folder in ("app", "ladder", "tests"):
        locked = (ROOT / folder / "requirements.txt").read_text()
        for line in (ROOT / folder / "requirements.in").read_text().splitlines():
            name = line.partition("#")[0].strip().lower()
            if name and not name.startswith("-"):
                assert f"\n{name}==" in f"\n{locked}", f"{folder}: {name} isn't locked; run: make lock"


def test_the_tests_run_the_application_with_the_versions_of_its_image() -> None:
    def versions(folder: str) -> dict[str, str]:
        lines = (ROOT / folder / "requirements.txt").read_text().splitlines()
        pins = (line.split()[0].split("==") for line in lines if "==" in line and not line.startswith((" ", "#")))
        return dict(pins)

    ours, image = versions("tests"), versions("app")
    assert {name: ours.get(name) for name in image} == image
