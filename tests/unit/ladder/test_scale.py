"""How many servers there are, and how one goes out of rotation: the pure parts, and the order in which they come."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import yaml

from ladder import deploy, packets, redundancy, rotation, scale, servers, settings, stack
from ladder.deploy import listed
from ladder.errors import UserError
from ladder.faults import Order, parse
from ladder.settings import ROOT, Settings
from ladder.stages import MOST_SERVERS, STAGES, kind, number, stage_of, zone

APART = stage_of("3")


def test_names_tell_kind_number_and_zone() -> None:
    assert (kind("web12"), number("web12"), zone("web12")) == ("web", 12, "web")
    assert (kind("edge"), number("edge"), zone("edge")) == ("edge", 0, "edge")
    assert zone("db2") == "data"


def test_a_stage_grows_in_the_order_in_which_a_request_meets_it() -> None:
    assert APART.scaled(2, 2) == APART
    nodes = APART.scaled(1, 3).nodes
    assert [node for node in nodes if kind(node) in ("web", "app")] == ["web1", "app1", "app2", "app3"]
    assert nodes.index("lb1") < nodes.index("web1") < nodes.index("app3") < nodes.index("db1")
    assert stage_of("2").scaled(4, 4) == stage_of("2")


def test_servers_are_groups_only_where_tiers_are_not_apart() -> None:
    assert [len(stage.servers) for stage in STAGES[:4]] == [1, 2, 2, 0]


@pytest.mark.parametrize(
    ("words", "found"), [("APP=4", {"app": 4}), ("WEB=1 APP=3", {"web": 1, "app": 3}), ("WEB=8", {"web": 8})]
)
def test_what_is_wanted_is_read(words: str, found: dict[str, int]) -> None:
    assert scale.wanted(words) == found
    assert parse(f"scale {words}") == Order("scale", words)
    assert str(parse(f"scale {words}")) == f"scale {words}"


@pytest.mark.parametrize(
    "words", ["", "APP", "APP=", "APP=0", "APP=-1", "APP=two", "APP=9", "APP=1e1", "APP=٣", "DB=3", "APP=3 APP=4", "4"]
)
def test_nonsense_is_answered_with_a_sentence(words: str) -> None:
    with pytest.raises(UserError, match=rf"make scale APP=4|whole number from 1 to {MOST_SERVERS}; nothing was"):
        scale.wanted(words)


def test_a_scale_without_a_number_is_answered_with_the_form() -> None:
    with pytest.raises(UserError, match=r"say: scale \[WEB=n\] \[APP=n\]"):
        parse("scale")


def test_the_written_file_says_what_the_one_of_the_checkout_says_for_two_of_each() -> None:
    ours = yaml.safe_load((ROOT / "compose/more.yaml").read_text())
    assert yaml.safe_load(servers.text({"web": 2, "app": 2})) == ours
    assert yaml.safe_load(servers.text({"web": 1, "app": 1})) == {"services": {}}
    assert list(yaml.safe_load(servers.text({"web": 1, "app": 4}))["services"]) == ["app2", "app3", "app4"]


def test_a_database_takes_the_connections_of_six_usual_application_servers() -> None:
    assert scale.connections() // (2 * (2 * 8 + 1)) == 6


class Web:
    """web1, whose machine has so much memory left, in bytes; None: it does not say."""

    status = "running"
    attrs: ClassVar = {"HostConfig": {"Memory": 2**28}}

    def __init__(self, free: int | None) -> None:
        self.free = free


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (2**29, r"web3, web4, web5 may use 0.8 GiB, and this machine has 0.5 GiB left; nothing was changed"),
        (None, r"no server runs that could say how much memory is left; nothing was changed"),
        (2**30, None),
    ],
)
def test_more_than_the_memory_carries_is_refused(
    monkeypatch: pytest.MonkeyPatch, free: int | None, words: str | None
) -> None:
    present = {"web1": Web(free), "web2": Web(free), "app1": Web(free), "app2": Web(free)}
    monkeypatch.setattr(scale, "containers", lambda _: present)
    monkeypatch.setattr(
        scale, "exec_in", lambda box, _: None if box.free is None else f"MemAvailable:   {box.free // 1024} kB\n"
    )
    with pytest.raises(UserError, match=words) if words else nullcontext():
        scale.refuse(settings.check(settings.read(settings.DEFAULTS), "stage3"), APART, "WEB=5")


STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_check_status srv_check_result
5 web 1 web1 10.80.2.21 2 8 1 15 3
5 web 2 web3 - 0 32 1 1 0

"""


def test_what_haproxy_knows_of_its_servers_is_read() -> None:
    found = rotation.rows(STATES)
    assert list(found) == ["web1", "web3"]
    assert found["web1"]["srv_addr"] == "10.80.2.21"
    assert int(found["web1"]["srv_admin_state"]) & rotation.OUT
    assert not int(found["web3"]["srv_admin_state"]) & rotation.OUT, "it is nowhere, nobody has taken it out"
    assert rotation.rows("") == {}


def test_sessions_of_one_server_are_counted() -> None:
    said = "# pxname,svname,qcur,qmax,scur,smax\nvisitors,FRONTEND,,,9,9\nweb,web1,0,0,3,9\nweb,BACKEND,0,0,4,9\n\n"
    assert rotation.current(said, "web1") == 3
    assert rotation.current(said, "web2") == rotation.current("", "web1") == 0


TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001        0 1
   1: 8102540A:1F40 1502540A:B1F2 01 00000000:00000000 00:00000000 00000000 10001        0 2
   2: 0100007F:1F40 0100007F:B1F4 01 00000000:00000000 00:00000000 00000000 10001        0 3
   3: 8102540A:1F40 1502540A:B1F6 06 00000000:00000000 03:00000000 00000000     0        0 0
   4: 8102540A:9C40 1503540A:0CEA 01 00000000:00000000 00:00000000 00000000 10001        0 4
"""


def test_only_open_connections_of_others_to_the_application_count() -> None:
    assert list(rotation.established(TABLE)) == ["1502540A:B1F2"]


def test_servers_are_listed_for_people() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


class Tiers:
    """The servers of both tiers, as an engine without containers has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.values = settings.check(settings.read(settings.DEFAULTS), "stage3")
        self.present = {node: SimpleNamespace(status="running") for node in APART.nodes}
        self.not_well: set[str] = set()
        self.taken_out: set[str] = set()
        self.refusing: set[str] = set()
        self.never_well: dict[str, BaseException] = {}
        self.kept: list[tuple[int, int]] = []
        self.done: list[str] = []
        monkeypatch.setattr(servers, "ROOT", folder)
        monkeypatch.setattr(Settings, "scratch", lambda _, name: folder / name)
        monkeypatch.setattr(scale, "refuse", lambda *_: None)
        monkeypatch.setattr(scale, "keep", lambda values, _: self.kept.append((values.web_servers, values.app_servers)))
        monkeypatch.setattr(scale, "containers", lambda _: dict(self.present))
        monkeypatch.setattr(scale, "compose", self.compose)
        monkeypatch.setattr(deploy, "wait_well", self.wait_well)
        monkeypatch.setattr(redundancy, "health", lambda _, node: ["is not"] if node in self.not_well else [])
        monkeypatch.setattr(packets, "is_refusing", lambda _, box: any(box is self.present[n] for n in self.refusing))
        for name in ("tell", "out", "back"):
            monkeypatch.setattr(rotation, name, lambda *words, name=name: self.done.append(f"{name} {words[2]}"))
        monkeypatch.setattr(rotation, "taken", lambda *_: self.taken_out)
        monkeypatch.setattr(stack, "remove", self.remove)
        monkeypatch.setattr(stack, "forget", lambda *_: None)

    def compose(self, _values: Settings, *words: str) -> None:
        for node in words[len(deploy.CREATE) :]:
            self.done.append(f"create {node}")
            self.present.setdefault(node, SimpleNamespace(status="running"))

    def wait_well(self, _values: Settings, node: str) -> None:
        self.done.append(f"well {node}")
        if error := self.never_well.get(node):
            raise error

    def remove(self, container: SimpleNamespace) -> None:
        (node,) = [name for name, box in self.present.items() if box is container]
        del self.present[node]

    def scale(self, words: str) -> list[str]:
        return scale.scale(self.values, APART, words)

    @property
    def asked(self) -> list[str]:
        """Who of the tiers is there."""
        return sorted(node for node in self.present if scale.is_scaled(node))


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tiers:
    return Tiers(monkeypatch, tmp_path)


def test_each_is_well_and_in_use_before_the_next_is_there(tiers: Tiers) -> None:
    """Of two that refuse at once, the two that nginx tries may be both: a form would meet a 502."""
    assert tiers.scale("APP=4")[0] == "app3, app4 are in use"
    assert tiers.done[:6] == ["create app3", "well app3", "back app3", "create app4", "well app4", "back app4"]
    assert tiers.kept == [(2, 4)]
    assert tiers.scale("APP=2")[-1] == "web servers: 2, application servers: 2"
    assert tiers.asked == ["app1", "app2", "web1", "web2"]


def test_what_an_interrupted_one_left_half_way_is_taken_up_again(tiers: Tiers) -> None:
    assert tiers.scale("APP=2")[0] == "nothing was to be done"
    for node in ("web3", "app3", "app4"):
        tiers.present[node] = SimpleNamespace(status="running")
    tiers.taken_out, tiers.not_well, tiers.refusing = {"web3"}, {"app3"}, {"app4"}
    assert tiers.scale("WEB=3 APP=4")[0] == "web3, app3, app4 are in use"
    assert {"back web3", "back app3", "back app4"} <= {*tiers.done}


@pytest.mark.parametrize("error", [UserError("not within 30 s"), KeyboardInterrupt()], ids=["not well", "interrupted"])
def test_newcomers_that_do_not_become_well_go_and_are_not_counted(tiers: Tiers, error: BaseException) -> None:
    tiers.never_well["app4"] = error
    with pytest.raises(type(error)) as ended:
        tiers.scale("APP=5")
    assert tiers.asked == ["app1", "app2", "web1", "web2"]
    assert tiers.kept == []
    assert "out app3" in tiers.done, "it was in use: what it has under way is waited for"
    if isinstance(error, UserError):
        assert str(ended.value).startswith("app3, app4, app5 removed again, there are as many as before: not within")
    tiers.never_well.clear()
    assert tiers.scale("APP=4")[0] == "app3, app4 are in use"


def test_compose_goes_on_with_as_many_as_are_counted(tiers: Tiers, tmp_path: Path) -> None:
    """.env names the file that says how many: it may not keep those who did not come."""
    tiers.values = servers.counted(tiers.values, 2, 3)
    tiers.present["app3"] = SimpleNamespace(status="running")
    tiers.never_well["app4"] = UserError("not within 30 s")
    with pytest.raises(UserError):
        scale.scale(tiers.values, APART.scaled(2, 3), "APP=5")
    written = yaml.safe_load((tmp_path / "more.yaml").read_text())
    assert list(written["services"]) == ["web2", "app2", "app3"]
    assert "app3" in tiers.asked


def test_one_that_was_there_before_stays_even_if_it_does_not_become_well(tiers: Tiers) -> None:
    tiers.not_well.add("app1")
    tiers.never_well["app1"] = UserError("app1 ended")
    with pytest.raises(UserError, match=r"^app1 ended$"):
        tiers.scale("APP=2")
    assert tiers.asked == ["app1", "app2", "web1", "web2"]


def test_a_server_that_refuses_is_known_by_the_rule_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "table inet firewall\ntable inet rotation\n"
    monkeypatch.setattr(packets, "_in_namespace", lambda *_: said)
    values = settings.check(settings.read(settings.DEFAULTS), "stage3")
    assert packets.is_refusing(values, SimpleNamespace())
    said = "table inet firewall\n"
    assert not packets.is_refusing(values, SimpleNamespace())
