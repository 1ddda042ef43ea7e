"""Climbing, leaving and coming back: what a change of stage keeps, and what other ways of starting it do."""

import os
import signal
import subprocess
import time
import uuid

import pytest

from ladder import doctor, door, images, settings
from ladder.aside import free_port
from ladder.engine import containers
from ladder.rungs import render
from ladder.settings import ROOT
from ladder.stages import JOBS, STAGES
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack

INTERRUPTED_AT = ("==> Images", "==> Starting stage 1")
"""What `make up` says: before it builds, and before containers start; of the second, until the first is made."""


@pytest.fixture
def moving(stack: Stack) -> Stack:
    """A stack of which nobody knows where it stands when the test ends, unless the test says so."""
    stack.up = -1
    return stack


def wall(stack: Stack, text: str) -> bool:
    """The message is on the wall."""
    with stack.visitor() as visitor:
        return text in visitor.get("/").text


def post(stack: Stack) -> str:
    """Put a message on the wall."""
    text = f"climbing {uuid.uuid4().hex}"
    with stack.author() as author:
        assert author.post("/api/messages", json={"body": text}).status_code == 201
    return text


def running(stack: Stack) -> set[str]:
    """What runs, by Compose's own word."""
    return set(stack.compose("ps", "--services", "--status", "running").split())


@pytest.mark.stage(0)
def test_up_and_down_the_ladder_keeps_every_message(moving: Stack, measure: Measure) -> None:
    """The last step by Compose alone, with the profile in its environment, as the README says."""
    texts = [post(moving)]
    for number, way in ((1, by_make), (2, by_make), (0, by_make), (1, by_hand)):
        begun = time.monotonic()
        said = way(moving, number)
        measure(f"seconds to stage {number} {way.__name__}", round(time.monotonic() - begun, 1))
        moving.is_up(number)
        moving.serves()
        assert running(moving) == set(moving.stage.nodes), said
        for text in texts:
            wait_until(lambda text=text: wall(moving, text), within=20, what=f"stage {number} shows {text}")  # type: ignore[misc]
        texts.append(post(moving))
    query = f"SELECT COUNT(*) FROM messages WHERE body IN ({', '.join(map(repr, texts))})"
    for node in STAGES[1].databases:
        wait_until(
            lambda node=node: moving.sql(node, query) == [[str(len(texts))]],  # type: ignore[misc]
            within=30,
            what=f"{node} has all messages",
        )
    moving.up = -1


def by_make(stack: Stack, number: int) -> str:
    """The stage by `make up`, which tells the address and what to try next."""
    said = stack.must("up", STAGE=str(number))
    assert door.site(settings.check(stack.settings.raw, STAGES[number].profile)) in said
    assert all(line.split("  ")[0] in said for line in STAGES[number].try_next)
    return said


def by_hand(stack: Stack, number: int) -> str:
    """The stage by `COMPOSE_PROFILES=… docker compose up --wait`.

    Some versions of --wait take a job that has ended for a failure; the site is what counts.
    """
    done = subprocess.run(
        ["docker", "compose", "up", "--detach", "--wait"],
        cwd=ROOT,
        env=stack.environment | {"COMPOSE_PROFILES": STAGES[number].profile},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


@pytest.mark.stage(0)
def test_down_keeps_and_wipe_starts_anew(moving: Stack) -> None:
    text = post(moving)

    assert "kept" in moving.must("down")
    assert containers(moving.settings) == {}
    moving.must("up", STAGE="0")
    assert wall(moving, text)

    assert "gone" in moving.must("wipe")
    assert containers(moving.settings) == {}
    moving.must("up", STAGE="0")
    moving.is_up(0)
    assert not wall(moving, text)
    with moving.visitor() as visitor:
        assert "<article" in visitor.get("/").text, "the new wall is empty at first sight"


@pytest.mark.stage(0, 1, 3)
def test_plain_compose_speaks_of_the_same_stage(stack: Stack) -> None:
    assert running(stack) == set(stack.stage.nodes)
    assert set(stack.compose("config", "--services").split()) == {*stack.stage.nodes, *JOBS}


@pytest.mark.stage(1)
def test_kill_by_plain_compose_is_undone_by_heal(stack: Stack) -> None:
    stack.compose("kill", "web2")

    assert "web2 is started" in stack.must("heal")


def test_without_a_stage_compose_says_how_to_choose_one(the_stack: Stack) -> None:
    environment = the_stack.environment | {"COMPOSE_PROFILES": ""}

    done = subprocess.run(
        ["docker", "compose", "up", "--detach"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert "make up STAGE=1" in done.stderr


@pytest.mark.stage(1)
def test_an_interrupted_up_can_simply_be_run_again(moving: Stack) -> None:
    """Ctrl-C reaches the whole group, as in a terminal."""
    text = post(moving)
    moving.must("down")

    for line in INTERRUPTED_AT:
        with subprocess.Popen(
            ["make", "--silent", "up", "STAGE=1"],
            cwd=ROOT,
            env=moving.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as up:
            assert up.stdout
            assert any(said.startswith(line) for said in up.stdout), f"it never said {line}"
            if line == INTERRUPTED_AT[-1]:
                wait_until(lambda: containers(moving.settings), within=60, what="a container is made")
            os.killpg(up.pid, signal.SIGINT)
            said = up.stdout.read()
        assert up.returncode != 0
        assert "interrupted" in said
        assert "Traceback" not in said

    moving.must("up", STAGE="1")
    moving.is_up(1)
    assert wall(moving, text)
    moving.must("up", STAGE="1")
    assert moving.starts() == moving.since, "Compose found something half made, and made it anew"


@pytest.mark.stage(0)
def test_two_stacks_stand_side_by_side(stack: Stack, measure: Measure) -> None:
    """Another project, other ports, another prefix, the same checkout: neither hears of the other."""
    number = int(stack.settings.subnet_prefix.split(".")[1])
    values = dict(stack.settings.raw)
    values |= {
        "COMPOSE_PROJECT_NAME": f"{stack.settings.project}-b",
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(free_port(udp=True)),
        "DNS_PORT": str(free_port(udp=True)),
    }
    for other in range(number + 1, 255):
        values["SUBNET_PREFIX"] = f"10.{other}"
        second_settings = settings.check(values, "stage0")
        if doctor.check_subnet(second_settings).ok:
            break
    ours, theirs = (str(render(each, STAGES[0])) for each in (stack.settings, second_settings))
    for each, rendered, foreign in ((stack.settings, ours, theirs), (second_settings, theirs, ours)):
        assert f"'{each.project}/web'" in rendered
        assert f"'{each.project}/web'" not in foreign
        assert f"{each.subnet_prefix}." not in foreign
        assert not any(f"'{port}'" in foreign for port in (each.http_port, each.https_port, each.dns_port))

    env_file = ".ladder/test-b.env"
    environment = stack.environment | {key: values[key] for key in values} | {"COMPOSE_ENV_FILES": env_file}
    second = Stack(second_settings, environment)
    begun = time.monotonic()
    try:
        (ROOT / env_file).write_text("")
        second.ensure(0)
        measure("seconds until the second is up", round(time.monotonic() - begun, 1))
        text = post(second)
        assert wall(second, text)
        assert not wall(stack, text)
        assert running(stack) == set(stack.stage.nodes)
    finally:
        second.make("wipe")
        images.forget(second.settings)
        (ROOT / env_file).unlink()
    assert containers(second.settings) == {}
    assert stack.starts() == stack.since
