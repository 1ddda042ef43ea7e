"""Down, where the engine does not do as it should; up, where something is wrong."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from ladder import credentials, replication, settings, stack
from ladder.errors import UserError
from ladder.stages import stage_of

SETTINGS = settings.check(settings.read(settings.DEFAULTS), "stage2")


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes that are removed, by an engine whose network can't be."""

    def fails(*_words: object, **_options: object) -> str:
        raise UserError("failed to remove network foobar_mgmt: network foobar_mgmt id 0 has active endpoints")

    found: list[str] = []
    volume = SimpleNamespace(remove=lambda: found.append("db1"))
    monkeypatch.setattr(stack, "compose", fails)
    monkeypatch.setattr(stack, "containers", lambda _: {})
    monkeypatch.setattr("ladder.packets.remove_helpers", lambda _: None)
    monkeypatch.setattr("ladder.credentials.ensure", lambda: None)
    monkeypatch.setattr(stack, "client", lambda: engine({}, volume))
    return found


def engine(attached: dict[str, str], volume: SimpleNamespace) -> SimpleNamespace:
    network = SimpleNamespace(attrs={"Containers": attached})
    return SimpleNamespace(
        networks=SimpleNamespace(list=lambda **_: [network]), volumes=SimpleNamespace(list=lambda **_: [volume])
    )


def test_a_network_of_which_the_engine_has_lost_count_keeps_nothing_else(removed: list[str]) -> None:
    stack.down(SETTINGS)
    assert removed == []
    stack.down(SETTINGS, wipe=True)
    assert removed == ["db1"]


def test_a_network_that_somebody_is_in_is_said(removed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "client", lambda: engine({"0": "a container of the user's"}, SimpleNamespace()))
    with pytest.raises(UserError, match="has active endpoints"):
        stack.down(SETTINGS)


def test_a_build_that_fails_has_changed_nothing_that_a_running_server_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as what the prober trusts, or the collector's way to a receiver: the site would seem down."""
    changed: list[str] = []

    def build(*_: object) -> None:
        raise UserError("prometheus/alerts.yml is wrong; nothing was changed")

    secrets = {credentials.RECEIVER_URL: "https://x.example/"}
    for name, instead in {
        "refuse_to_leave_the_primary": lambda *_: None,
        "servers.settle": lambda settings, _: settings,
        "doctor.examine": lambda *_: [],
        "doctor.mend": lambda *_: [],
        "doctor.check_ports": lambda *_: [],
        "credentials.ensure": list,
        "credentials.store": lambda name, _: changed.append(name),
        "receiver.prepare": lambda settings: (settings, secrets),
        "certificates.check": lambda _: None,
        "certificates.ensure": lambda _: changed.append("certificate"),
        "images.ensure_base_images": lambda *_: None,
        "images.build": build,
        "boards.settle": lambda settings, _: settings,
        "keep": lambda *_: changed.append(".env"),
        "clear_the_way": lambda *_: changed.append("containers"),
    }.items():
        monkeypatch.setattr(f"ladder.stack.{name}", instead)

    with pytest.raises(UserError, match="nothing was changed"):
        stack.up(SETTINGS, stage_of("2"))
    assert changed == []


@pytest.mark.parametrize(("name", "made_anew"), [(credentials.RECEIVER_URL, True), (credentials.RECEIVER, False)])
def test_a_collector_with_another_receiver_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, name: str, made_anew: bool
) -> None:
    """Passwords it reads whenever it needs them, the URL when it starts."""
    gone: list[object] = []
    monkeypatch.setattr("ladder.credentials.stored", lambda each: "another" if each == name else "")
    monkeypatch.setattr("ladder.credentials.store", lambda *_: None)
    monkeypatch.setattr(stack, "containers", lambda _: {"prometheus": "the collector", "web1": "another"})
    monkeypatch.setattr(stack, "remove", gone.append)
    stack.hand_over(SETTINGS, dict.fromkeys((credentials.RECEIVER, credentials.RECEIVER_URL), ""))
    assert gone == (["the collector"] if made_anew else [])


def test_a_stage_whose_databases_follow_one_that_it_has_not_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell before: the primary was down."""
    monkeypatch.setattr(
        "ladder.replication.ask", lambda _: replication.Database(writable=False, gtids="", source="db2")
    )
    with pytest.raises(UserError, match=r"db1 is a copy of db2, which stage 0 hasn't.*make promote NODE=db1"):
        stack.refuse_to_wait_for_the_primary(stage_of("0"), {"db1": Mock()})
    stack.refuse_to_wait_for_the_primary(stage_of("1"), {"db1": Mock(), "db2": Mock()})
