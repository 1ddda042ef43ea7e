"""Section 5 of docker-bench-security 1.6 (CIS Docker Benchmark): its 26 automated checks, asked of every container.

https://github.com/docker/docker-bench-security/blob/master/tests/5_container_runtime.sh
"""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ladder.engine import client, containers
from ladder.settings import ROOT
from tests.stack import Stack

pytestmark = pytest.mark.stage(0, 1, 2, 3)

Facts = dict[str, Any]
"""What `docker inspect` tells of one container."""

EXCUSED = {
    "5.2": "an engine whose kernel has AppArmor gives each container its profile; this one's has none",
    "5.4": "NET_ADMIN loads the server's firewall, and is gone before the server starts, as test_hardening shows; of "
    "two balancers, keepalived alone keeps it, to move their address, as test_pair shows",
    "5.8": "visitors come to 80 and 443; HTTP_PORT and HTTPS_PORT say where else",
}
"""The checks that may fail, and why."""

USUAL = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
"""The capabilities that the engine gives without being asked."""
HOSTS_OWN = {"/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr"}


def published(facts: Facts) -> list[dict[str, str]]:
    ports = facts["NetworkSettings"]["Ports"]
    return [binding for bindings in ports.values() for binding in bindings or []]


def options(facts: Facts) -> list[str]:
    return facts["HostConfig"]["SecurityOpt"] or []


def limits(facts: Facts) -> Facts:
    host: Facts = facts["HostConfig"]
    return host


PASSES: dict[str, Callable[[Facts], bool]] = {
    "5.1": lambda _: client().info()["Swarm"]["LocalNodeState"] == "inactive",
    "5.2": lambda c: c["AppArmorProfile"] not in ("", "unconfined"),
    "5.3": lambda c: bool(options(c)),
    "5.4": lambda c: {name.removeprefix("CAP_") for name in limits(c)["CapAdd"] or []} <= USUAL,
    "5.5": lambda c: not limits(c)["Privileged"],
    "5.6": lambda c: not HOSTS_OWN & {mount.get("Source") for mount in c["Mounts"]},
    "5.7": lambda c: not any("sshd" in " ".join(row) for row in client().api.top(c["Id"])["Processes"]),
    "5.8": lambda c: all(int(binding["HostPort"]) >= 1024 for binding in published(c)),
    "5.10": lambda c: limits(c)["NetworkMode"] != "host",
    "5.11": lambda c: limits(c)["Memory"] > 0,
    "5.12": lambda c: limits(c)["CpuShares"] > 0,
    "5.13": lambda c: limits(c)["ReadonlyRootfs"],
    "5.14": lambda c: all(binding["HostIp"] not in ("", "0.0.0.0", "::") for binding in published(c)),
    "5.15": lambda c: limits(c)["RestartPolicy"]["Name"] != "always",
    "5.16": lambda c: limits(c)["PidMode"] != "host",
    "5.17": lambda c: limits(c)["IpcMode"] != "host",
    "5.20": lambda c: all(mount.get("Propagation") != "shared" for mount in c["Mounts"]),
    "5.21": lambda c: limits(c)["UTSMode"] != "host",
    "5.22": lambda c: not any("seccomp" in option and "unconfined" in option for option in options(c)),
    "5.23": lambda _: not execs_with_privileges(),
    "5.25": lambda c: limits(c)["CgroupParent"] in ("", "/docker"),
    "5.26": lambda c: any(option.startswith("no-new-privileges") for option in options(c)),
    "5.27": lambda c: "Health" in c["State"],
    "5.29": lambda c: bool(limits(c)["PidsLimit"]) and limits(c)["PidsLimit"] > 0,
    "5.31": lambda c: limits(c)["UsernsMode"] != "host",
    "5.32": lambda c: not any("docker.sock" in str(mount.get("Source")) for mount in c["Mounts"]),
}


def execs_with_privileges() -> str:
    """Where the project would run a command in a container with more than the container has."""
    search = ["git", "grep", "-nE", "[-]-privileged|privileged=True", "--", "ladder", "compose", "Makefile"]
    return subprocess.run(search, cwd=ROOT, capture_output=True, text=True).stdout


def test_docker_bench_finds_nothing_but_what_is_explained(stack: Stack) -> None:
    running = {name: found.attrs for name, found in containers(stack.settings).items() if found.status == "running"}
    assert set(running) == set(stack.stage.nodes)

    failed = {check: [name for name, facts in running.items() if not good(facts)] for check, good in PASSES.items()}

    failed = {check: names for check, names in failed.items() if names}
    assert len(PASSES) == 26
    assert set(failed) <= set(EXCUSED), failed
    # At most two at once: the tests' ports are none of the privileged.
    assert len(failed) <= 2, failed
