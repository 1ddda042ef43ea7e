"""GTID sets: MySQL's notation in and out, and the arithmetic that decisions rest on."""

from __future__ import annotations

import random

import pytest
from node.gtid import GtidSet

U, V = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"


@pytest.mark.parametrize(
    ("text", "count", "canonical"),
    [
        ("", 0, ""),
        (f"{U}:1", 1, f"{U}:1"),
        (f"{U}:1-5:7", 6, f"{U}:1-5:7"),
        (f"{U}:3-5:1-2:4-9", 9, f"{U}:1-9"),
        (f"{U}:1-5,\n{V}:2-3", 7, f"{U}:1-5,{V}:2-3"),
        (f"{U.upper()}:1", 1, f"{U}:1"),
        (f"{U}:1-2:deploy:1-3:9", 6, f"{U}:1-2:deploy:1-3:9"),
    ],
)
def test_notation(text: str, count: int, canonical: str) -> None:
    parsed = GtidSet.parse(text)
    assert (len(parsed), str(parsed)) == (count, canonical)
    assert bool(parsed) == bool(count)
    assert GtidSet.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["nonsense", f"{U}:", f"{U}:1-x", "mariadb-0-1"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (int() and parse() word it differently)
        GtidSet.parse(text)


def test_tags_are_transactions_of_their_own() -> None:
    assert GtidSet.parse(f"{U}:t:1-3") - GtidSet.parse(f"{U}:1-3") == GtidSet.parse(f"{U}:t:1-3")


def test_arithmetic_agrees_with_plain_sets() -> None:
    dice = random.Random(1)
    for _ in range(300):
        one = {dice.randrange(1, 20) for _ in range(dice.randrange(12))}
        two = {dice.randrange(1, 20) for _ in range(dice.randrange(12))}
        a, b = (GtidSet.parse(",".join(f"{U}:{n}" for n in numbers)) for numbers in (one, two))
        assert _numbers(a - b) == one - two
        assert _numbers(a | b) == one | two
        assert (a >= b) == (one >= two)
        assert len(a - b) == len(one - two)


def _numbers(gtids: GtidSet) -> set[int]:
    return {number for parts in gtids.intervals.values() for first, last in parts for number in range(first, last + 1)}
