"""The picture of requests a second, from what the collector says."""

import math

from rich.console import Console

from ladder.collector import Sample
from ladder.qps import draw

RATE, ERRORS = "instance:requests:rate20s", "instance:errors:ratio20s"


def sample(name: str, value: float, **labels: str) -> Sample:
    return Sample({"__name__": name, **labels}, value)


def printed(samples: list[Sample], silent: list[Sample] | None = None) -> list[str]:
    console = Console(width=140)
    with console.capture() as said:
        console.print(draw(samples, silent or []))
    return said.get().splitlines()


def rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


SAMPLES = [
    sample(RATE, 4.0, layer="database", instance="db1", operation="write"),
    sample(RATE, 20.0, layer="visitors", instance="lb1"),
    sample(RATE, 10.0, layer="web", instance="web2"),
    sample(RATE, 10.0, layer="web", instance="web1"),
    sample(ERRORS, 0.0, layer="web", instance="web1"),
    sample(ERRORS, 0.25, layer="web", instance="web2"),
    sample("instance:request_seconds:p95_1m", 0.0421, layer="web", instance="web1"),
    sample("instance:saturation:ratio", 0.5, layer="web", instance="web1"),
    sample("instance:saturation:ratio", 0.9, layer="cores", instance="machine"),
]


def test_layers_stand_in_the_order_in_which_a_request_meets_them() -> None:
    found = rows(printed(SAMPLES))
    assert [row[:3] for row in found] == [
        ["visitors", "lb1", "20.0"],
        ["web", "web1", "10.0"],
        ["web", "web2", "10.0"],
        ["database, writes", "db1", "4.0"],
    ]


def test_a_row_says_errors_times_and_how_busy() -> None:
    web1, web2 = rows(printed(SAMPLES))[1:3]
    assert web1[3:8] == ["0 %", "", "", "42 ms", "50%"]
    assert web2[3] == "25.0%"


def test_reads_and_writes_of_a_database_have_their_own_errors_and_times() -> None:
    found = rows(
        printed(
            [
                *(sample(RATE, 1.0, layer="database", instance="db1", operation=each) for each in ("read", "write")),
                sample(ERRORS, 0.0, layer="database", instance="db1", operation="read"),
                sample(ERRORS, 0.5, layer="database", instance="db1", operation="write"),
                sample("instance:request_seconds:avg", 0.004, layer="database", instance="db1", operation="write"),
                sample("instance:saturation:ratio", 0.25, layer="database", instance="db1"),
            ]
        )
    )
    assert [row[0] for row in found] == ["database, reads", "database, writes"]
    assert [row[3:8] for row in found] == [["0 %", "", "", "", "25%"], ["50.0%", "4 ms", "", "", "25%"]]


def test_the_longest_bar_is_the_highest_rate() -> None:
    bars = [len(row[-1]) for row in rows(printed(SAMPLES))]
    assert bars == [24, 12, 12, 5]


def test_who_does_not_answer_is_named() -> None:
    said = printed(SAMPLES, [sample("up", 0, instance="web2", job="x"), sample("mysql_up", 0, instance="db2")])
    assert "no answer: db2, web2" in said[-1]


def test_nothing_asked_is_no_error() -> None:
    quiet = [
        sample(RATE, 0.0, layer="app", instance="app1"),
        sample("instance:request_seconds:p50_1m", math.nan, layer="app", instance="app1"),
    ]
    assert rows(printed(quiet)) == [["app", "app1", "0.0", "", "", "", "", "", ""]]
    assert rows(printed([])) == []
