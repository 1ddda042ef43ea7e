"""The pair of balancers, as its members tell of themselves."""

from typing import Any, cast

import pytest
from docker.models.containers import Container
from rich.console import Console

from ladder import nodes, pair, redundancy, settings, views
from ladder.drills.drill import balancers_in_roles
from ladder.errors import UserError
from ladder.pair import Seat
from ladder.stages import stage_of

DEFAULTS = settings.read(settings.DEFAULTS)
VALUES = settings.check(DEFAULTS, "stage3")
ACTIVE = settings.check(DEFAULTS | {"LB_CLUSTER": "active-active"}, "stage3")
STAGE = stage_of("3")
FIRST, SECOND = "10.80.1.10", "10.80.1.9"


class Balancer:
    """As much of a container as is asked for."""

    def __init__(self, status: str, said: str | None = None, card: str = "") -> None:
        self.status, self.said = status, said
        self.attrs = {"NetworkSettings": {"Networks": {"foobar_edge": {"MacAddress": card}}}}


def asked(said: str | None, status: str = "running", values: settings.Settings = VALUES) -> Seat | None:
    return pair.ask(values, cast(Container, Balancer(status, said)))


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "exec_in", lambda balancer, _: balancer.said)


class Edge(Balancer):
    """It knows on whose network card each address is."""

    def __init__(self, cards: dict[str, str]) -> None:
        super().__init__("running")
        self.cards = cards


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> dict[str, Balancer]:
    """The containers of a stage 3, as far as there are any."""
    found: dict[str, Balancer] = {}

    def answer(container: Balancer, words: list[str]) -> str | None:
        if isinstance(container, Edge):
            return f"{words[-1]} dev eth1 lladdr {container.cards[words[-1]]} REACHABLE"
        return container.said

    monkeypatch.setattr(pair, "exec_in", answer)
    for module in (pair, views):
        monkeypatch.setattr(module, "containers", lambda _: found)
    return found


def well(own: str, *held: str, value: str = "0") -> Balancer:
    return Balancer("running", " ".join([value, own, *held]), card=own)


@pytest.mark.parametrize(
    ("said", "seat", "words", "well", "settled"),
    [
        ("0\n10.80.1.12 10.80.2.12 \n", Seat((), "0"), "well", True, False),
        ("-10\n10.80.1.12 10.80.1.10 10.80.2.12 \n", Seat((FIRST,), "-10"), "well, and the other is", True, True),
        ("-254\n10.80.1.100 10.80.2.12\n", Seat((), "-254"), "HAProxy is silent, or reaches nobody", False, False),
    ],
)
def test_a_balancer_says_what_it_has(said: str, seat: Seat, words: str, well: bool, settled: bool) -> None:
    found = asked(said)
    assert found == seat
    assert found
    assert (found.says, found.well, found.settled) == (words, well, settled)


@pytest.mark.parametrize(("said", "status"), [(None, "running"), ("", "running"), ("0\n10.80.1.10\n", "paused")])
def test_a_dead_or_frozen_one_says_nothing(said: Any, status: str) -> None:
    assert asked(said, status) is None
    assert pair.ask(VALUES, None) is None


def test_there_is_one_address_without_a_home_or_two_each_with_its_own() -> None:
    assert (pair.addresses(VALUES), pair.homes(VALUES)) == ((FIRST,), {})
    assert (pair.addresses(ACTIVE), pair.homes(ACTIVE)) == ((FIRST, SECOND), {FIRST: "lb1", SECOND: "lb2"})


@pytest.mark.parametrize(
    ("own", "holds"),
    [
        ("10.80.1.11 10.80.2.11", ()),
        (f"10.80.1.11 {SECOND}", (SECOND,)),
        (f"10.80.1.11 {SECOND} {FIRST}", (FIRST, SECOND)),
        ("10.80.1.11 10.80.1.90 10.80.1.100", ()),
    ],
)
def test_of_two_addresses_a_balancer_has_none_one_or_both(own: str, holds: tuple[str, ...]) -> None:
    assert asked(f"0\n{own}\n", values=ACTIVE) == Seat(holds, "0")


Held = tuple[tuple[str, ...], tuple[str, ...]]


@pytest.mark.parametrize(
    ("held", "values", "wrong"),
    [
        (((FIRST,), ()), VALUES, []),
        (((), (FIRST,)), VALUES, []),
        (((FIRST,), (FIRST,)), VALUES, [f"2 balancers hold the address {FIRST}"]),
        (((), ()), VALUES, [f"0 balancers hold the address {FIRST}"]),
        (((FIRST,), (SECOND,)), ACTIVE, []),
        (((), (FIRST, SECOND)), ACTIVE, [f"{FIRST} has not gone home to lb1"]),
        (((SECOND,), (FIRST,)), ACTIVE, [f"{FIRST} has not gone home to lb1", f"{SECOND} has not gone home to lb2"]),
        (((FIRST,), ()), ACTIVE, [f"0 balancers hold the address {SECOND}"]),
        (((FIRST, SECOND), (SECOND,)), ACTIVE, [f"2 balancers hold the address {SECOND}"]),
    ],
)
def test_whole_is_each_address_held_by_one_and_of_two_at_home(
    present: dict[str, Balancer], held: Held, values: settings.Settings, wrong: list[str]
) -> None:
    present.update(lb1=well("10.80.1.11", *held[0]), lb2=well("10.80.1.12", *held[1]))
    assert list(redundancy.the_pair(values, STAGE)) == wrong


@pytest.mark.parametrize(
    ("held", "lb", "standby"),
    [
        (((FIRST,), (SECOND,)), "lb1", "lb2"),
        (((SECOND,), (FIRST,)), "lb2", "lb1"),
        (((), (FIRST, SECOND)), "lb2", "lb1"),
    ],
)
def test_of_two_who_work_lb_is_who_holds_the_first_address(
    present: dict[str, Balancer], held: Held, lb: str, standby: str
) -> None:
    present.update(lb1=well("10.80.1.11", *held[0]), lb2=well("10.80.1.12", *held[1]))
    assert nodes.balancers(ACTIVE, STAGE, "lb") == (lb,)
    assert nodes.balancers(ACTIVE, STAGE, "standby") == (standby,)


def test_nobody_is_lb_while_both_or_none_hold_the_first_address(present: dict[str, Balancer]) -> None:
    present.update(lb1=well("10.80.1.11", FIRST), lb2=well("10.80.1.12", FIRST, SECOND))
    with pytest.raises(UserError, match="both balancers hold the address"):
        nodes.balancers(ACTIVE, STAGE, "lb")
    present.update(lb1=Balancer("exited"), lb2=well("10.80.1.12", SECOND))
    with pytest.raises(UserError, match="no balancer holds the address"):
        nodes.balancers(ACTIVE, STAGE, "standby")


def rows(monkeypatch: pytest.MonkeyPatch, values: settings.Settings) -> list[list[str]]:
    """What `make vip` shows of the balancers."""
    monkeypatch.setattr(views, "stage_in_force", lambda _: STAGE)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(views.vip(values))
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.get().splitlines() if line[0] == "│"]


def test_vip_shows_who_holds_the_address(monkeypatch: pytest.MonkeyPatch, present: dict[str, Balancer]) -> None:
    present.update(lb1=well("10.80.1.11", FIRST, value="-10"), lb2=well("10.80.1.12"), edge=Edge({FIRST: "10.80.1.11"}))
    assert rows(monkeypatch, VALUES) == [["lb1", "yes", "yes", "well, and the other is"], ["lb2", "no", "", "well"]]


def test_vip_shows_who_holds_which_of_two(monkeypatch: pytest.MonkeyPatch, present: dict[str, Balancer]) -> None:
    edge = Edge({FIRST: "10.80.1.11", SECOND: "10.80.1.12"})
    present.update(lb1=well("10.80.1.11", FIRST), lb2=well("10.80.1.12", SECOND), edge=edge)
    assert rows(monkeypatch, ACTIVE) == [
        ["lb1", FIRST, FIRST, FIRST, "well"],
        ["lb2", SECOND, SECOND, SECOND, "well"],
    ]
    edge.cards[FIRST] = "10.80.1.12"
    present.update(lb1=Balancer("exited", card="10.80.1.11"), lb2=well("10.80.1.12", SECOND, FIRST))
    both = f"{FIRST}, {SECOND}"
    assert rows(monkeypatch, ACTIVE) == [
        ["lb1", FIRST, "?", "", "silent (exited)"],
        ["lb2", SECOND, both, both, "well"],
    ]


@pytest.mark.parametrize(
    ("words", "works", "means"),
    [
        ("kill lb2", (True, False), "kill standby"),
        ("kill lb1 then partition lb2 lb1", (True, False), "kill lb then partition standby lb"),
        ("kill lb2", (True, True), "kill lb"),
        ("kill standby", (True, True), "kill lb"),
        ("partition lb standby", (True, True), "partition lb standby"),
        ("partition lb2 lb1", (True, True), "partition lb standby"),
        ("kill web1 then stop lb1 and pause standby", (True, True), "kill web1 then stop lb and pause lb"),
    ],
)
def test_a_drill_is_judged_by_what_the_balancer_does(words: str, works: tuple[bool, bool], means: str) -> None:
    """Of two who work, the loss of either is felt."""
    assert balancers_in_roles(words, dict(zip(("lb1", "lb2"), works, strict=True))) == means
