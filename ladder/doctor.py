"""Is this machine ready? Every check says what is wrong and what mends it; none changes anything."""

import errno
import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ladder import debian, images
from ladder.engine import client, containers
from ladder.settings import ROOT, Settings
from ladder.stages import STAGES, Stage, kind

ENGINE = (20, 10)
COMPOSE = (2, 24)
BUILDX = (0, 11)
PYTHON = (3, 11)
NOT_OURS = os.strerror(errno.EADDRNOTAVAIL)
MEMORY_GIB = 2
DISK_GIB = 4


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    what: str
    ok: bool
    mend: str = ""
    """What to do; empty when all is well."""
    plugin: str = ""
    """The Docker plugin whose absence this is, for `up` to install where it can."""


def examine(settings: Settings, stage: Stage = STAGES[-1]) -> Iterator[Finding]:
    """Run all checks that matter for a stage, by default the highest, in the order in which they matter."""
    yield from (
        check_engine(),
        check_plugin("docker-compose", "compose", COMPOSE),
        check_plugin("docker-buildx", "buildx", BUILDX),
        check_python(),
    )
    yield from check_ports(settings, stage)
    yield check_subnet(settings)
    yield check_memory()
    yield check_disk(settings, stage)


def check_engine() -> Finding:
    """Docker Engine answers and is recent enough. Raises UserError when it does not answer: nothing else can go on."""
    version = client().version()["Version"]
    if version_of(version) < ENGINE:
        return Finding(
            f"Docker Engine {version}", False, "20.10 or newer is needed: https://docs.docker.com/engine/install/"
        )
    return Finding(f"Docker Engine {version}", True)


def check_plugin(name: str, verb: str, least: tuple[int, ...]) -> Finding:
    """Compose or Buildx, as a plugin of the docker command."""
    done = subprocess.run(["docker", verb, "version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = version_of(done.stdout) if done.returncode == 0 else ()
    wanted = ".".join(map(str, least))
    if found >= least:
        return Finding(f"docker {verb} {'.'.join(map(str, found))}", True)
    return Finding(
        f"docker {verb} {'.'.join(map(str, found)) or 'is missing'}",
        False,
        f"{wanted} or newer is needed: install the package {name}-plugin (Docker's), or see "
        "https://docs.docker.com/compose/install/linux/. On Debian and Ubuntu, `make up` as root does it",
        plugin=name,
    )


def check_python() -> Finding:
    """The workbench's Python; ladder/bootstrap has seen to it."""
    return Finding(f"Python {sys.version.split()[0]}", sys.version_info >= PYTHON)


def check_ports(settings: Settings, stage: Stage) -> Iterator[Finding]:
    """The published ports are free, or ours."""
    ours = {
        (binding["HostPort"], port.rpartition("/")[2])
        for container in containers(settings).values()
        for port, bindings in container.ports.items()
        for binding in bindings or []
    }
    site = settings.bind_address
    doors = [
        ("HTTP_PORT", site, settings.http_port, "tcp", 8080),
        ("HTTPS_PORT", site, settings.https_port, "tcp", 8443),
        ("HTTPS_PORT", site, settings.https_port, "udp", 8443),
        ("DNS_PORT", site, settings.dns_port, "udp", 8054),
        ("DNS_PORT", site, settings.dns_port, "tcp", 8054),
    ]
    if stage.monitored:
        doors.append(("PROMETHEUS_PORT", "127.0.0.1", settings.prometheus_port, "tcp", 9091))
    if "grafana" in stage.nodes:
        doors.append(("GRAFANA_PORT", "127.0.0.1", settings.grafana_port, "tcp", 3001))
    for name, address, port, protocol, other in doors:
        what = f"{address}:{port}/{protocol} for {name}"
        trouble = "" if (str(port), protocol) in ours else bind_trouble(address, port, protocol)
        another = "BIND_ADDRESS=127.0.0.1" if trouble == NOT_OURS else f"{name}={other if other != port else other + 1}"
        yield Finding(what, not trouble, f"{trouble}; take another: make up STAGE=… {another}" if trouble else "")


def bind_trouble(address: str, port: int, protocol: str) -> str:
    """Why a port can't be had, or "". A port that only root may open is fine: the engine opens it."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            return ""
        except OSError as error:
            return "another program has the port" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
    return ""


def check_subnet(settings: Settings) -> Finding:
    """No other network of Docker or of this machine has the stack's addresses."""
    wanted = ipaddress.ip_network(f"{settings.subnet_prefix}.0.0/21")
    what = f"addresses {settings.subnet_prefix}.0.0/21"
    another = "SUBNET_PREFIX=10.81" if settings.subnet_prefix != "10.81" else "SUBNET_PREFIX=10.82"
    ours = set()
    for network in client().networks.list():
        mine = network.attrs["Labels"].get("com.docker.compose.project") == settings.project
        for config in (network.attrs["IPAM"] or {}).get("Config") or []:
            if not (subnet := config.get("Subnet")) or ":" in subnet:
                continue
            if mine:
                ours.add(subnet)
            elif wanted.overlaps(ipaddress.ip_network(subnet)):
                return Finding(
                    what,
                    False,
                    f"the Docker network {network.name} has {subnet}; take others: make up STAGE=… {another}",
                )
    for route in host_routes():
        # A wider one (a VPN's, to all of 10.0.0.0/8) leads to others by way of somebody; our networks lie nearer.
        if ipaddress.ip_network(route, strict=False).prefixlen < 16:
            continue
        if route not in ours and wanted.overlaps(ipaddress.ip_network(route, strict=False)):
            return Finding(what, False, f"this machine has a route to {route}; take others: make up STAGE=… {another}")
    return Finding(what, True)


def host_routes() -> list[str]:
    """The IPv4 networks that this machine has routes to, the default route aside; empty where `ip` is missing."""
    try:
        done = subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    return [route["dst"] for route in json.loads(done.stdout or "[]") if route["dst"] != "default"]


def check_memory() -> Finding:
    """What the engine may use."""
    gib = client().info()["MemTotal"] / 2**30
    return Finding(
        f"{gib:.1f} GiB of memory",
        gib >= MEMORY_GIB * 0.9,
        f"stage 1 wants {MEMORY_GIB} GiB; give the engine more (Docker Desktop: Settings, Resources)",
    )


def check_disk(settings: Settings, stage: Stage) -> Finding:
    """Where the engine keeps images and volumes, if that is on this machine. It is images that need so much."""
    root = Path(client().info()["DockerRootDir"])
    free = shutil.disk_usage(root if root.exists() else ROOT).free / 2**30
    return Finding(
        f"{free:.0f} GiB of disk free",
        free >= DISK_GIB or has_images(settings, stage),
        f"{DISK_GIB} GiB are needed for images; free some, for example: docker system prune",
    )


def has_images(settings: Settings, stage: Stage) -> bool:
    """Every image that a stage's servers are made from has been built."""
    kinds = {"prometheus" if kind(node).startswith("agent-") else kind(node) for node in stage.nodes}
    return all(images.is_here(f"{settings.project}/{name}") for name in sorted(kinds))


def version_of(text: str) -> tuple[int, ...]:
    """The first version number in a text: "v2.40.3-3" is (2, 40, 3)."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def mend(findings: list[Finding], say: Callable[[str], None]) -> list[Finding]:
    """Install missing plugins where we may, and return what is still wrong."""
    missing = [finding.plugin for finding in findings if finding.plugin]
    if not missing or not debian.is_debian_root():
        return findings
    say(f"installing {' and '.join(missing)}")
    debian.install_plugins(missing)
    return [finding for finding in findings if not finding.plugin]
