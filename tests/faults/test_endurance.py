"""The same again and again, and load for long: figures of many, where the other tests have one of each.

Each bound is a multiple of what is expected on an idle machine; what was measured is listed at the end of the run.
"""

import itertools
import re
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ladder import bench, pair
from ladder.drills.checker import Verdict, check, felt_by, quantile
from ladder.drills.drill import Drill, plan
from ladder.errors import UserError
from ladder.images import build_one
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.faults.test_promotion import back_as_replica
from tests.stack import Stack
from tests.stages.test_pair import settled
from tests.stages.test_promotion import terms
from tests.traffic import Traffic

pytestmark = [pytest.mark.stage(3), pytest.mark.long]

KILLS, KILL_READS, KILL_SECONDS = 20, 50.0, 4.0
"""Balancers that die; the reads a second that meet it, half on new connections (a drill's usual 100 leave two cores
nothing for VRRP); the seconds for which each is dead."""
GAP = 2.0
"""Seconds without an answer that 95 of 100 dead balancers may cost; expected: half of one."""
PROMOTIONS = 10
DEAD_PRIMARIES = 5
WRITES_WITHIN = 15.0
"""Seconds from the command until a write succeeds; expected: up to 5."""
LOAD_SECONDS, ROUND_SECONDS = 600, 30
"""How long there is full load, and how long each round of it is."""
MOST_MEMORY = 2.5e9
"""Bytes, of all containers of the stage."""

busy = pytest.mark.parametrize(
    "traffic", [{"reads": 50.0, "writes": 10.0}], indirect=True, ids=["50 reads and 10 writes a second"]
)


def kill_the_balancer(stack: Stack, path: Path) -> Verdict | str:
    """What visitors felt; or why it can't be said: a busy machine held them up themselves."""
    steps = plan("kill lb", seconds=KILL_SECONDS, reads=KILL_READS, writes=0)
    try:
        verdict = check(Drill(stack.settings, steps, path, print).run())
    except UserError as error:
        if "too busy" not in str(error):
            raise
        return str(error)
    return verdict.void or verdict


def test_twenty_balancers_that_die_are_each_replaced_in_time(stack: Stack, tmp_path: Path, measure: Measure) -> None:
    """Of the void ones, each is repeated, and as many as there are to be is too many."""
    felt: list[Verdict] = []
    void: list[str] = []
    while len(felt) < KILLS:
        found = kill_the_balancer(stack, tmp_path / f"{len(felt)}-{len(void)}.jsonl")
        if isinstance(found, str):
            void.append(found)
            assert len(void) < KILLS, void
        else:
            felt.append(found)

    gaps = sorted(verdict.reads.gap for verdict in felt)
    figures = {"median": quantile(gaps, 0.5), "p95": quantile(gaps, 0.95), "max": gaps[-1]}
    measure(f"gap in s of {KILLS} kills", {name: round(gap, 2) for name, gap in figures.items()})
    failed = sum(verdict.reads.bad for verdict in felt), sum(verdict.reads.sent for verdict in felt)
    measure("reads that failed, of how many", failed)
    measure("void, and repeated", len(void))
    assert not any(verdict.reads.until_healed for verdict in felt)
    assert figures["p95"] <= GAP, gaps


@busy
@pytest.mark.usefixtures("one_writer")
def test_ten_promotions_in_a_row_under_load_and_nobody_notices(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    before = terms(stack)
    without: list[float] = []
    for _ in range(PROMOTIONS):
        stack.is_whole()
        old, new = stack.holder("primary"), stack.holder("replica")
        said = stack.must("promote")
        assert f"{old} (well) is closed for writing, and follows {new}" in said
        assert stack.holder("primary") == new
        without.append(float(re.search(r"nobody was it for ([\d.]+) s", said)[1]))
        traffic.more("write", 10)
    stack.is_whole()
    history = traffic.finish()

    measure("seconds in which nobody was the primary", without)
    measure("slowest write in s", round(felt_by(history, "write").slowest, 2))
    measure("history", history.summary())
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")
    assert terms(stack) == before + PROMOTIONS
    assert stack.starts() == stack.since
    stack.keeps_promises(traffic.run, history)


def replace_a_dead_primary(stack: Stack, traffic: Traffic) -> float:
    """The seconds from the command until the first write is acknowledged that was due after it."""
    stack.is_whole()
    old, new = stack.holder("primary"), stack.holder("replica")
    stack.must("kill", NODE=old)
    killed = traffic.now()
    wait_until(lambda: traffic.history(killed).bad("write"), within=20, what="a write fails")
    commanded = traffic.now()
    assert f"{old} (dead) finds on its disk that {new} leads" in stack.must("promote")
    traffic.recovers("write", within=30)
    took = min(write.end for write in traffic.history(commanded).of("write", "ok")) - commanded
    back_as_replica(stack, old)
    return took


@busy
@pytest.mark.usefixtures("one_writer")
def test_five_dead_primaries_in_a_row_are_replaced_by_command_in_time(
    stack: Stack, traffic: Traffic, measure: Measure
) -> None:
    took = [replace_a_dead_primary(stack, traffic) for _ in range(DEAD_PRIMARIES)]
    history = traffic.finish()

    figures = {"median": round(statistics.median(took), 2), "max": round(max(took), 2)}
    measure("seconds from the command until a write succeeds", figures)
    measure("history", history.summary())
    assert max(took) <= WRITES_WITHIN, took
    assert not history.bad("read"), history.told("read")
    stack.keeps_promises(traffic.run, history)


def killed_for_memory(stack: Stack) -> dict[str, int]:
    """How many processes of each container the kernel has ended because it had no memory left for them."""
    ask = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null; true"
    said = {node: stack.run_in(node, "sh", "-c", ask) for node in stack.stage.nodes}
    return {node: int(re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)[1]) for node, text in said.items()}


def test_ten_minutes_of_full_load_move_no_address_and_take_no_more_memory(
    stack: Stack, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load is that of `make bench`, in which no request may fail.

    What the balancers log is kept for minutes at this rate, so that it can't tell how often the address moved. But
    whoever gets it needs 5 s until he has seen the other well (haproxy/lb-watch), and is asked more often than that.
    """
    monkeypatch.setattr(bench, "ROUND_SECONDS", ROUND_SECONDS)
    *_, door = bench.ways(stack.settings, stack.stage).values()
    image = build_one(stack.settings, "wrk", "ladder/wrk")
    wait_until(lambda: settled(stack), within=30, what="the holder has seen the other well")
    holder, before = stack.holder("lb"), killed_for_memory(stack)
    looks, sizes, over = itertools.count(), [stack.memory()], threading.Event()

    def rounds() -> list[float]:
        ends = time.monotonic() + LOAD_SECONDS
        rates: list[float] = []
        while time.monotonic() < ends and not over.is_set():
            rates.append(bench.pages_a_second(stack.settings, image, door))
        return rates

    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(rounds)

        def ended() -> bool:
            seat = pair.ask(stack.settings, stack.node(holder))
            assert seat, f"{holder} can't be asked"
            assert seat.settled, f"the address has moved: {holder} holds {seat.holds}, and says {seat.value}"
            if next(looks) % 15 == 14:  # it takes seconds, and cores that the load is to have
                sizes.append(stack.memory())
            return load.done()

        try:
            wait_until(ended, within=LOAD_SECONDS + 2 * ROUND_SECONDS + 60, what="the load ends", every=1)
        finally:
            over.set()
        rates = load.result()

    sums = [round(sum(each.values())) for each in sizes]
    measure("pages a second, round by round", [round(rate) for rate in rates])
    measure("MiB of all containers: before, at most, at the end", (sums[0], max(sums), sums[-1]))
    assert set(sizes[-1]) == set(stack.stage.nodes)
    assert max(sums) * 2**20 <= MOST_MEMORY, sizes[sums.index(max(sums))]
    assert stack.starts() == stack.since
    assert killed_for_memory(stack) == before
    assert (stack.holder("lb"), settled(stack)) == (holder, True)
