"""The pure parts of the faults: what is said, whose processes, and the protocol that delays packets."""

import struct
from types import SimpleNamespace

import pytest

from ladder import delay, deploy, faults, settings
from ladder.errors import UserError
from ladder.faults import DAEMONS, FAULTS, LASTING, Order, daemon, descendants, parse
from ladder.stages import JOBS, STAGES, ZONES


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("kill web1", Order("kill", "web1")),
        ("  pause   primary ", Order("pause", "primary")),
        ("crash app1", Order("crash", "app1")),
        ("crash app1 gunicorn", Order("crash", "app1", "gunicorn")),
        ("partition db2 in", Order("partition", "db2", "in")),
        ("slow app1 0.5", Order("slow", "app1", "0.5")),
        ("slow app1 10", Order("slow", "app1", "10")),
        ("partition lb standby", Order("partition", "lb", "standby")),
        ("lose lb", Order("lose", "lb")),
        ("lose lb 10", Order("lose", "lb", "10")),
        ("power-cut", Order("power-cut")),
        ("deploy", Order("deploy")),
    ],
)
def test_an_order_is_read_and_said_again(words: str, order: Order) -> None:
    assert parse(words) == order
    assert str(order) == " ".join(words.split())


@pytest.mark.parametrize("words", ["", " ", "explode web1", "web1", "heal", "KILL web1"])
def test_an_unknown_fault_is_answered_with_the_known_ones(words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(words)
    assert all(verb in str(refused.value) for verb in FAULTS)


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("kill", r"kill NODE"),
        ("kill web1 web2", r"kill NODE"),
        ("slow", r"slow NODE \[DELAY\]"),
        ("slow app1 1 2", r"slow NODE \[DELAY\]"),
        ("power-cut web1", r"power-cut$"),
        ("deploy app1", r"deploy$"),
    ],
)
def test_what_is_said_otherwise_is_answered_with_the_form(words: str, form: str) -> None:
    with pytest.raises(UserError, match=f"say: {form}"):
        parse(words)


@pytest.mark.parametrize("seconds", ["0", "0.001", "10.1", "-1", "nan", "inf", "1e1", "fast", "0,3", "٣"])
def test_a_delay_out_of_bounds(seconds: str) -> None:
    with pytest.raises(UserError, match=r"from 0\.01 to 10"):
        parse(f"slow app1 {seconds}")


def test_one_can_be_cut_off_from_a_server_that_scale_made() -> None:
    assert parse("partition lb1 web3") == Order("partition", "lb1", "web3")


@pytest.mark.parametrize("way", ["up", "IN", "inout"])
def test_an_unknown_way(way: str) -> None:
    with pytest.raises(UserError, match="both, in, out"):
        parse(f"partition db2 {way}")


@pytest.mark.parametrize("percent", ["0", "100", "-1", "1.5", "many", "٣"])
def test_a_loss_out_of_bounds(percent: str) -> None:
    with pytest.raises(UserError, match="from 1 to 99"):
        parse(f"lose lb {percent}")


def test_what_lasts_must_be_healed() -> None:
    assert {"kill", "stop", "pause", "partition", "slow", "lose", "wipe", "power-cut"} <= LASTING
    assert not LASTING & {"start", "unpause", "restart", "recreate", "deploy"}


def test_every_node_has_its_daemon() -> None:
    assert {daemon(node) for node in ZONES} == set(DAEMONS.values())


def status(number: int, parent: int, name: str, state: str = "S (sleeping)") -> str:
    return f"Name:\t{name}\nUmask:\t0022\nState:\t{state}\nPid:\t{number}\nPPid:\t{parent}\nUid:\t1\t1\t1\t1\n"


def test_processes_are_those_below_the_first() -> None:
    """Not the first itself, nor what looks in from outside (a shell, a health check: parent 0), nor the dead."""
    statuses = [
        status(1, 0, "nsd: xfrd"),
        status(9, 1, "nsd: main"),
        status(10, 9, "nsd: server 1"),
        status(11, 1, "nsd: server 2", "Z (zombie)"),
        status(60, 0, "sh"),
        status(61, 60, "nsd-control"),
    ]
    assert descendants("".join(statuses)) == {"nsd": [9, 10]}
    assert descendants("") == {}


def test_the_kernels_packets_are_read_by_their_numbers() -> None:
    def packet(number: int) -> bytes:
        header = delay.attribute(1, struct.pack("!IHB", number, 0x0800, 4))
        return delay.message(delay.PACKET, header + delay.attribute(9, b"12345"))

    failed = struct.pack("=IHHIIi", 20, delay.ERROR, 0, 0, 0, -2)
    assert list(delay.numbers(packet(7) + failed + packet(2**31 + 1))) == [7, 2**31 + 1]
    assert list(delay.numbers(b"")) == []


def test_messages_have_their_own_length_and_attributes_are_filled_up() -> None:
    for message in (*delay.settings(), delay.release(7)):
        size, kind = struct.unpack_from("=IH", message)
        assert size == len(message)
        assert kind >> 8 == delay.SUBSYSTEM_QUEUE
        assert size % 4 == 0
    assert struct.unpack("!II", delay.release(7)[-8:]) == (delay.ACCEPT, 7)


@pytest.mark.parametrize(
    ("gone", "created"), [((), []), (("migrate",), ["migrate"]), (("db2", "migrate"), ["db2", "migrate"])]
)
def test_healing_all_creates_a_job_again_that_somebody_pruned(
    monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...], created: list[str]
) -> None:
    """It has ended, and `docker container prune` removes what has; without it no stage is whole."""
    done: list[str] = []
    there = [node for node in (*STAGES[1].nodes, *JOBS) if node not in gone]
    boxes = {node: SimpleNamespace(status="running", labels={"com.docker.compose.service": node}) for node in there}
    monkeypatch.setattr(faults, "containers", lambda _: boxes)
    monkeypatch.setattr(faults, "compose", lambda _, *words: done.extend(words[len(deploy.CREATE) :]))
    for module, name in (("packets", "mend"), ("packets", "remove_helpers"), ("rotation", "restore")):
        monkeypatch.setattr(f"ladder.{module}.{name}", lambda *_: [])
    monkeypatch.setattr("ladder.marks.put", lambda *_: None)
    values = settings.check(settings.read(settings.DEFAULTS), "stage1")
    assert faults.heal(values, STAGES[1]) == [f"{node} is created anew" for node in created]
    assert done == created
