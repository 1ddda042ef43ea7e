"""Drills that make no sense are refused before anything is broken; interrupted, one heals what it broke."""

import os
import re
import signal
import subprocess

import pytest

from ladder.aside import free_port
from ladder.drills.checker import check
from ladder.drills.record import load
from ladder.settings import ROOT
from tests.stack import Stack

pytestmark = pytest.mark.stage(1)

REFUSED = [
    ({}, "which one?"),
    ({"FAULT": "explode web1"}, "there is no fault 'explode'. There are kill, stop, "),
    ({"FAULT": "kill web9"}, "stage 1 has no 'web9'. It has edge, "),
    ({"FAULT": "kill"}, "say: kill NODE"),
    ({"FAULT": "kill web1 then"}, "a fault is missing in 'kill web1 then'"),
    ({"FAULT": "kill web1 then wipe web2"}, "web2 has no disk of its own"),
    ({"FAULT": "unpause web1"}, "web1: it is running"),
    ({"FAULT": "kill web1", "READS": "0"}, "READS=0: a number from 1 to 1000"),
    ({"FAULT": "kill web1", "SECONDS": "soon"}, "SECONDS: 'soon' is not a valid float"),
    ({"FAULT": "kill web1", "COMPOSE_PROFILES": ""}, "no stage is up; bring one up first: make up STAGE=1"),
    ({"FAULT": "kill web1", "HTTP_PORT": str(free_port())}, "the site can't be reached, so nothing was broken: "),
]


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_it_is_refused_before_anything_is_broken(stack: Stack, values: dict[str, str], said: str) -> None:
    before = stack.starts()
    done = stack.make("drill", **values)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert stack.starts() == before


def test_what_is_broken_already_is_named(stack: Stack) -> None:
    stack.must("kill", NODE="web2")
    before = stack.starts()
    done = stack.make("drill", FAULT="kill web1")
    assert done.returncode != 0
    assert "nothing was broken, because something is already: web2 is exited; mend it: make heal" in done.stderr
    assert stack.starts() == before


@pytest.mark.parametrize(
    ("shell", "ended"), [("trap '' INT; ", signal.SIGINT), ("", signal.SIGTERM)], ids=["&", "kill"]
)
def test_interrupted_it_heals_what_it_broke(stack: Stack, shell: str, ended: signal.Signals) -> None:
    """The signal goes to make too, as Ctrl-C does; what a shell's & starts ignores Ctrl-C, unless it says otherwise."""
    before = stack.starts()
    words = ["sh", "-c", f"{shell}exec make --silent drill FAULT='pause app1 then kill web1' READS=24 WRITES=6"]
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as drill:
        assert drill.stdout
        for line in drill.stdout:
            if line.strip() == "app1 is frozen":
                break
        os.killpg(drill.pid, ended)
        told, wrong = drill.communicate(timeout=120)

    assert drill.returncode != 0
    assert "healing what was broken" in told
    assert "interrupted: there is no verdict; what was broken is healed" in wrong
    assert "Traceback" not in told + wrong
    assert stack.starts() == before, "app1 is not back, or something else was touched"
    accounts = stack.sql(stack.holder("primary"), "SELECT COUNT(*) FROM accounts WHERE name LIKE 'drill-%'")
    assert accounts == [["0"]], "what the drill wrote stayed behind"
    record = max((ROOT / ".ladder/drills").glob("*-pause-app1-then-kill-web1.jsonl"))
    assert check(load(record)).void == "the drill was interrupted before the fault was undone"
    checked = stack.make("check", RECORD=str(record))
    assert checked.returncode != 0
    assert re.search("^void: the drill was interrupted", checked.stdout, re.MULTILINE)
