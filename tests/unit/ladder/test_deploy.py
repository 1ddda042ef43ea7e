"""A version that is tried, and one that is taken back, server by server; the engine is a list of what was done."""

from collections.abc import Callable
from unittest.mock import Mock

import docker
import pytest
import requests

from ladder import deploy, images, redundancy, rotation, settings
from ladder.errors import UserError
from ladder.stages import STAGES

VALUES = settings.check(settings.read(settings.DEFAULTS), "stage3")


class Servers:
    """Every application server, and how far its version has come."""

    def __init__(self) -> None:
        self.image, self.built = "old", False
        self.runs = {"app1": "old", "app2": "old"}
        self.done: list[str] = []
        self.refuses: dict[tuple[str, str], BaseException] = {}
        """What putting a server of a version into use ends with."""
        self.stage_is_whole = True

    def build(self, *_words: object, **_options: object) -> None:
        self.image = "new"

    def name(self, _settings: object, names: dict[str, str]) -> None:
        self.image = names["app"]

    def replace(self, _settings: object, *services: str) -> None:
        for service in services:
            self.done.append(f"{self.image} {service}")
            if service in self.runs:
                self.runs[service] = self.image

    def back(self, _settings: object, _stage: object, server: str) -> None:
        if error := self.refuses.get((self.image, server)):
            raise error


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Servers:
    found = Servers()
    monkeypatch.setattr(images, "version", lambda _: 1)
    monkeypatch.setattr(images, "ids", lambda *_: {"web": "web", "app": found.image})
    monkeypatch.setattr(images, "build", found.build)
    monkeypatch.setattr(images, "name", found.name)
    monkeypatch.setattr(deploy, "attempt", lambda *_: None)
    monkeypatch.setattr(deploy, "replace", found.replace)
    monkeypatch.setattr(deploy, "migrated", lambda _: True)
    monkeypatch.setattr(deploy, "wait_well", lambda *_: None)
    monkeypatch.setattr(deploy, "USED_WITHIN", 0)
    monkeypatch.setattr(rotation, "out", lambda *_: None)
    monkeypatch.setattr(rotation, "back", found.back)
    monkeypatch.setattr(redundancy, "whole", lambda *_: lambda: found.stage_is_whole)
    monkeypatch.setattr(redundancy, "missing", lambda *_: "db2 is exited")
    return found


def test_a_version_that_is_well_stays(engine: Servers) -> None:
    assert deploy.deploy(VALUES, STAGES[3]) == "app1 and app2 run version 2"
    assert engine.done == ["new migrate", "new app1", "new app2"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (UserError("not within 30 s: app2 is well."), UserError),
        (docker.errors.APIError("the engine is busy"), UserError),
        (requests.exceptions.ReadTimeout("the engine is silent"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["not well", "the engine", "a silent engine", "interrupted"],
)
def test_whatever_ends_it_the_old_version_is_everywhere(
    engine: Servers, capsys: pytest.CaptureFixture[str], error: BaseException, raised: type[BaseException]
) -> None:
    engine.refuses["new", "app2"] = error
    with pytest.raises(raised) as ended:
        deploy.deploy(VALUES, STAGES[3])
    assert engine.runs == {"app1": "old", "app2": "old"}
    assert engine.image == "old"
    assert "version 2 is taken back, all servers run version 1" in str(ended.value) + capsys.readouterr().out


def test_a_server_that_was_lost_meanwhile_does_not_keep_the_others_from_being_taken_back(engine: Servers) -> None:
    engine.stage_is_whole = False
    with pytest.raises(UserError, match=r"version 2 is taken back, all servers run version 1: .*\ndb2 is exited"):
        deploy.deploy(VALUES, STAGES[3])
    assert engine.runs == {"app1": "old", "app2": "old"}


def test_who_could_not_be_taken_back_is_named_and_the_others_are(engine: Servers) -> None:
    engine.refuses["new", "app2"] = UserError("app2 ended")
    engine.refuses["old", "app2"] = UserError("a balancer doesn't find it")
    with pytest.raises(UserError) as ended:
        deploy.deploy(VALUES, STAGES[3])
    assert engine.runs["app1"] == "old"
    first, *others = str(ended.value).splitlines()
    assert first == "version 2 is taken back but for app2 (see: make ps; then: make heal): app2 ended"
    assert others == ["app2: a balancer doesn't find it"]


def failing(*_words: object) -> None:
    raise UserError("lb1 does not answer")


def test_a_server_that_can_not_be_drained_is_taken_back_all_the_same(
    engine: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains: list[Callable[..., None]] = [failing, failing, lambda *_: None]
    engine.refuses["new", "app2"] = UserError("app2 ended")
    monkeypatch.setattr(rotation, "out", lambda *_: drains.pop()() if engine.image == "old" else None)
    with pytest.raises(UserError, match="all servers run version 1"):
        deploy.deploy(VALUES, STAGES[3])
    assert engine.runs == {"app1": "old", "app2": "old"}


def test_an_interrupted_build_leaves_no_name_to_the_new_image(engine: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_words: object, **_options: object) -> None:
        engine.image = "new"
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy.deploy(VALUES, STAGES[3])
    assert (engine.image, engine.done) == ("old", [])


def test_one_that_is_only_tried_is_told_so_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its drops would be told as those of the server whose name it has (firewall/firewall-count)."""
    engine, compose, wait, trial = Mock(), Mock(), Mock(), Mock()
    engine().containers.list.side_effect = [[], [trial], [], [trial]]
    monkeypatch.setattr(deploy, "client", engine)
    monkeypatch.setattr(deploy, "compose", compose)
    monkeypatch.setattr(deploy, "wait_for", wait)
    deploy.attempt(VALUES, "web2")
    words = compose.call_args.args[1:]
    assert words[0] == "run"
    assert words[-1] == "web2"
    assert "TRIAL=yes" in words
    wait.assert_called_once()
    trial.remove.assert_called_once_with(force=True)

    compose.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        deploy.attempt(VALUES, "web2")
    assert trial.remove.call_count == 2, "it was there when the command was interrupted"
