"""What is measured on which stage, and that a stage has as many servers afterwards as before."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ladder import bench, scale, settings
from ladder.errors import UserError
from ladder.settings import Settings
from ladder.stages import STAGES

VALUES = settings.check(settings.read(settings.DEFAULTS), "stage3")


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (0, ["edge → web1 → app1"]),
        (1, ["web1 → app1", "edge → lb1 → web1, web2 → app1, app2"]),
        (2, ["web1 → app1", "TLS 1.3, edge → lb1 → web1, web2 → app1, app2"]),
        (3, ["web1 → app1, app2", "TLS 1.3, edge → lb1 or lb2 → web1, web2 → app1, app2"]),
    ],
)
def test_each_way_is_called_what_it_is(number: int, names: list[str]) -> None:
    assert list(bench.ways(VALUES, STAGES[number])) == ["app1 (Gunicorn alone)", *names]


class Machine:
    """Rates that depend on the number of application servers alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values = replace(VALUES, app_servers=3)
        self.counts: list[int] = []
        self.ends_at: tuple[int, BaseException] = (0, KeyboardInterrupt())
        monkeypatch.setattr(bench, "build_one", lambda *_: "wrk")
        monkeypatch.setattr(bench, "containers", lambda _: {})
        monkeypatch.setattr(bench, "client", lambda: SimpleNamespace(info=lambda: {"NCPU": 2}))
        monkeypatch.setattr(bench, "pages_a_second", self.rate)
        monkeypatch.setattr(bench, "load", lambda: self.values)
        monkeypatch.setattr(scale, "scale", self.scale)

    def scale(self, _settings: Settings, _stage: object, words: str) -> list[str]:
        self.counts.append(int(words.removeprefix("APP=")))
        self.values = replace(self.values, app_servers=self.counts[-1])
        return []

    def rate(self, *_words: object) -> float:
        count, error = self.ends_at
        if self.counts and self.counts[-1] == count:
            raise error
        return 100.0 * self.values.app_servers


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_on_a_stage_whose_tiers_are_apart_it_scales_and_goes_back(machine: Machine) -> None:
    said = list(bench.run(machine.values, STAGES[3], lambda _: None))
    assert said[-4:] == [
        "   100 pages/s   1.00 of one application server  the whole chain with 1 application server",
        "   200 pages/s   2.00 of one application server  the whole chain with 2 application servers",
        "   400 pages/s   4.00 of one application server  the whole chain with 4 application servers",
        "on 2 cores, the load included",
    ]
    assert machine.counts == [1, 2, 4, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("a request failed")], ids=["interrupted", "failed"])
def test_however_it_ends_there_are_as_many_as_before(machine: Machine, error: BaseException) -> None:
    machine.ends_at = (2, error)
    with pytest.raises(type(error)):
        list(bench.run(machine.values, STAGES[3], lambda _: None))
    assert machine.counts == [1, 2, 3]


def test_elsewhere_it_does_not_scale(machine: Machine) -> None:
    said = list(bench.run(machine.values, STAGES[0], lambda _: None))
    assert len(said) == 2 + 1
    assert "edge → web1 → app1" in said[1]
    assert machine.counts == []
