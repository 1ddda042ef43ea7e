"""What the examination finds on machines that a test makes up, and that it says what mends it."""

import os
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest

from ladder import doctor, images, settings
from ladder.settings import ROOT
from ladder.stages import STAGES

VALUES = settings.check(settings.read(settings.DEFAULTS), "stage2")
Usage = namedtuple("Usage", "free")
GIB = 2**30


class Machine:
    """An engine, its memory and disk, its networks and images, and the routes beside it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory, self.free = 8 * GIB, 100 * GIB
        self.networks: list[SimpleNamespace] = []
        self.routes: list[str] = []
        self.missing: set[str] = set()
        self.asked: list[str] = []
        found = SimpleNamespace(
            info=lambda: {"MemTotal": self.memory, "DockerRootDir": "/var/lib/docker"},
            networks=SimpleNamespace(list=lambda: self.networks),
        )
        monkeypatch.setattr(doctor, "client", lambda: found)
        monkeypatch.setattr(doctor, "host_routes", lambda: self.routes)
        monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(self.free))
        monkeypatch.setattr(images, "is_here", self.is_here)

    def is_here(self, image: str) -> bool:
        self.asked.append(image)
        return image not in self.missing


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(("gib", "enough"), [(8, True), (2, True), (1.9, True), (1.7, False)])
def test_memory(machine: Machine, gib: float, enough: bool) -> None:
    """What a machine of two GiB says it has is a little less."""
    machine.memory = int(gib * GIB)
    found = doctor.check_memory()
    assert (found.what, found.ok) == (f"{gib:.1f} GiB of memory", enough)
    assert "give the engine more" in found.mend


def test_a_disk_that_is_nearly_full_is_an_error_only_while_images_are_to_be_built(machine: Machine) -> None:
    assert doctor.check_disk(VALUES, STAGES[2]).ok
    assert machine.asked == [], "nobody needs to know"
    machine.free = 3 * GIB
    assert doctor.check_disk(VALUES, STAGES[2]).ok
    machine.missing = {"foobar/mysqld-exporter"}
    found = doctor.check_disk(VALUES, STAGES[2])
    assert (found.what, found.ok) == ("3 GiB of disk free", False)
    assert "docker system prune" in found.mend
    assert doctor.check_disk(VALUES, STAGES[1]).ok, "which has no monitoring"


def test_the_images_that_are_asked_for_are_those_of_the_compose_files(machine: Machine) -> None:
    doctor.has_images(VALUES, STAGES[3])
    templates = "".join(path.read_text() for path in (ROOT / "compose").glob("*.yaml"))
    written = {line.strip() for line in templates.splitlines() if line.strip().startswith("image: ")}
    assert {f"image: ${{COMPOSE_PROJECT_NAME}}/{image.partition('/')[2]}" for image in machine.asked} == written


@pytest.mark.parametrize(
    ("route", "free"),
    [
        ("10.0.0.0/8", True),
        ("10.0.0.0/15", True),
        ("10.80.0.0/16", False),
        ("10.80.3.0/24", False),
        ("10.9.0.0/16", True),
    ],
)
def test_a_route_to_more_than_our_prefix_is_nobodys_addresses(machine: Machine, route: str, free: bool) -> None:
    """A company's VPN leads all of 10.0.0.0/8 to somebody; our networks lie nearer."""
    machine.routes = [route]
    found = doctor.check_subnet(VALUES)
    assert found.ok == free
    assert free or f"a route to {route}" in found.mend


@pytest.mark.parametrize("verb", ["ps", "doctor"])
def test_an_engine_that_does_not_run_is_a_sentence(verb: str) -> None:
    given = {"DOCKER_HOST": "unix:///nonexistent", "COMPOSE_PROFILES": "stage0"}
    done = subprocess.run(
        [sys.executable, "-m", "ladder", verb],
        cwd=ROOT,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "ladder: the Docker engine does not answer. Start it" in done.stderr
    assert "Traceback" not in done.stderr
