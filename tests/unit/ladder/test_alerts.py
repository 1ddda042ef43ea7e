"""What is wrong and what was told, as a table; also when whoever knows the first is dead."""

import pytest
from rich.console import Console

from ladder import alerts, settings
from ladder.errors import UserError

TOLD = {
    "time": "2026-11-21T15:00:00Z",
    "state": "firing",
    "alert": "Watchdog",
    "severity": "critical",
    "instance": "",
    "summary": "Nothing is heard.",
    "look": "make ps",
}


@pytest.fixture(autouse=True)
def _pager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "told", lambda _: iter([TOLD]))


def printed(number: int) -> str:
    console = Console(width=140)
    with console.capture() as said:
        console.print(alerts.table(settings.check(settings.read(settings.DEFAULTS), f"stage{number}")))
    return " ".join(said.get().split())


def test_what_is_wrong_and_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "firing", lambda _: {("ServerDown", "web2")})
    said = printed(2)
    assert "stage 2: now: ServerDown (web2)" in said
    assert "│ 15:00:00 │ firing │ Watchdog │ Nothing is heard. │ make ps │" in said


def test_what_was_told_is_shown_when_the_collector_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(_: object) -> None:
        raise UserError("the collector does not answer; see: make ps")

    monkeypatch.setattr(alerts, "firing", dead)
    said = printed(2)
    assert "the collector does not answer; see: make ps" in said
    assert "│ 15:00:00 │ firing │ Watchdog │ Nothing is heard. │ make ps │" in said


def test_a_stage_without_alerts_says_so() -> None:
    with pytest.raises(UserError, match="stage 1 is not monitored"):
        printed(1)
