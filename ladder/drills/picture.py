"""The picture of a drill: one HTML file with everything in it, plotly.js too (4.8 MB), so it opens without a network.

Four rows over one axis of time, in seconds since the first fault: reads and writes a second by outcome, the latency of
every request, and who answered. The colours are of Okabe and Ito's palette, which colour-blind people can tell apart;
hatching, symbols and words say the same.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ladder.drills.checker import Verdict, outages_of, sentence, silences
from ladder.drills.record import KINDS, Record, Request
from ladder.stages import stage_of

BLUE, GREEN, ORANGE, BLACK, YELLOW = "#0072B2", "#009E73", "#D55E00", "#222222", "#F0E442"
PURPLE, GREY = "#CC79A7", "#ddd"
BARS = {"ok": (BLUE, ""), "failed": (ORANGE, "/"), "unknown": (BLACK, "x")}
"""Colour and hatching of each outcome."""
POINTS = {
    "ok read": (BLUE, "circle", 5),
    "ok write": (GREEN, "triangle-up", 9),
    "failed": (ORANGE, "x", 8),
    "unknown": (BLACK, "diamond", 9),
}
"""Colour, symbol and size of each request."""
TIERS = {"lb": "#777", "web": GREEN, "app": BLUE, "db": PURPLE}
"""Those that sign an answer, in the order in which a request meets them."""
FONT = 17
"""Pixels, as all sizes here: readable from the back of a room."""
LINE = 24
"""Height of a line of labels."""
NARROW = 1000
"""Width of the rows in a browser of 1280; labels that don't overlap there overlap in no wider one."""
HEADROOM = 1.45
"""Above the highest bar there is so much more room, for the longest gap."""
SLIVER = 0.2
"""Seconds; of less than this no rate is made."""
QUICKEST, SLOWEST = 0.001, 16.0
"""Seconds, the ends of the axis of latencies: the same in every picture, so that they can be compared."""


@dataclass(frozen=True)
class Mark:
    """A moment of the drill: a band from `begin` to `end`, in seconds since the first fault, and its label."""

    begin: float
    end: float
    label: str
    color: str
    dash: str
    leftward: bool = False
    """The label ends at the band, else it begins there."""


def draw(record: Record, verdict: Verdict) -> str:
    """The whole page."""
    begin = record.begin
    means = f" ({record.means})" if record.means != begin.faults else ""
    about = " · ".join(filter(None, (f"{begin.started[:16].replace('T', ' ')} UTC", begin.machine, begin.commit)))
    return PAGE.format(
        title=escape(f"{begin.faults}{means} – stage {begin.stage}, {stage_of(str(begin.stage)).title}"),
        about=escape(about),
        kind="void" if verdict.void else "verdict",
        parts="".join(f"<li>{escape(part)}</li>" for part in sentence(verdict).split(";\n")),
        chart=figure(record).to_html(
            full_html=False, div_id="chart", default_height="100%", config={"displayModeBar": False, "responsive": True}
        ),
    )


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{ margin: 0; height: 100vh; min-height: 700px; display: flex; flex-direction: column; background: white;
         color: black; font: clamp(17px, 1.1vw, 24px)/1.35 "Open Sans", "DejaVu Sans", Verdana, sans-serif; }}
  header {{ padding: 10px 20px 0; }}
  h1 {{ font-size: 28px; line-height: 1.2; margin: 0; }}
  header div, ul {{ display: flex; flex-wrap: wrap; align-items: baseline; column-gap: 2em; }}
  small {{ font-size: 16px; color: #444; }}
  ul {{ margin: 4px 0 0; padding: 0; list-style: none; }}
  .void {{ color: #b00020; font-size: 28px; font-weight: bold; }}
  main {{ flex: 1; min-height: 0; }}
  main > div {{ height: 100%; }}
</style>
<header><div><h1>{title}</h1><small>{about}</small></div><ul class="{kind}">{parts}</ul></header>
<main>{chart}</main>
</html>
"""


def figure(record: Record) -> go.Figure:
    """The four rows, and the marks over all of them."""
    zero = record.faults[0].at if record.faults else 0.0
    marks = list(marks_of(record, zero))
    moments = [0.0, *(each.due - zero for each in record.requests), *(mark.end for mark in marks)]
    seconds = range(math.floor(min(moments)), math.floor(max(moments)) + 1)
    answers = answers_of(record.requests, seconds, zero)
    rows = make_subplots(rows=4, shared_xaxes=True, vertical_spacing=0.03, row_heights=[5, 5, 6, max(3, len(answers))])
    for row in (1, 2):
        add_outcomes(rows, row, record, seconds, zero)
    add_latencies(rows, record.requests, zero)
    add_answers(rows, answers, seconds)
    levels = levels_of(marks, len(seconds) / NARROW)
    for mark, level in zip(marks, levels, strict=True):
        add_mark(rows, mark, level)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if len(seconds) <= 25 * step)
    rows.update_xaxes(range=(seconds.start, seconds.stop), tick0=0, dtick=step, zeroline=False, gridcolor=GREY)
    rows.update_xaxes(title={"text": "seconds since the first fault", "standoff": 4}, row=4)
    rows.update_yaxes(zeroline=False, gridcolor=GREY)
    for row, words in enumerate(("reads/s", "writes/s", "latency", "answered by"), 1):
        name_row(rows, row, words)
    legend = {"x": 1.01, "xanchor": "left", "yanchor": "top", "itemsizing": "constant"}
    rows.update_layout(
        font={"size": FONT, "color": "black", "family": "Open Sans, DejaVu Sans, Verdana, sans-serif"},
        plot_bgcolor="white",
        barmode="stack",
        bargap=0.08,
        margin={"l": 130, "r": 130, "t": 8 + LINE * (1 + max(levels, default=0)), "b": 52},
        legend=legend | {"y": rows.layout.yaxis.domain[1]},
        legend2=legend | {"y": rows.layout.yaxis3.domain[1]},
        hoverlabel={"font": {"size": FONT}},
    )
    return rows


def name_row(rows: go.Figure, row: int, words: str) -> None:
    """The name of a row, at its left; as titles of the axes they would not stand in one line."""
    low, high = rows.get_subplot(row, 1).yaxis.domain
    rows.add_annotation(
        text=words,
        textangle=-90,
        x=0,
        xref="paper",
        xshift=-118,
        xanchor="left",
        y=(low + high) / 2,
        yref="paper",
        yanchor="middle",
        showarrow=False,
    )


def marks_of(record: Record, zero: float) -> Iterator[Mark]:
    """Every fault, every healing, and when everything was back."""
    for fault in record.faults:
        yield Mark(fault.at - zero, fault.done - zero, fault.order, ORANGE, "solid")
    for heal in record.heals:
        yield Mark(heal.at - zero, heal.done - zero, "healed", BLUE, "dash", leftward=True)
    for at in record.redundant:
        yield Mark(at - zero, at - zero, "redundancy back", GREEN, "dot")


def levels_of(marks: Sequence[Mark], seconds_a_pixel: float) -> list[int]:
    """For each mark the lowest line of labels in which it hides none of those before it."""
    taken: list[tuple[int, float, float]] = []
    for mark in marks:
        width = (0.62 * FONT * len(mark.label) + 15) * seconds_a_pixel
        begin, end = (mark.begin - width, mark.begin) if mark.leftward else (mark.begin, mark.begin + width)
        hidden = {level for level, sooner, later in taken if begin < later and sooner < end}
        taken.append((min(set(range(len(marks))) - hidden), begin, end))
    return [level for level, _, _ in taken]


def add_mark(rows: go.Figure, mark: Mark, level: int) -> None:
    """A band over all rows, a line where it begins, and the label above."""
    below = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "x0": mark.begin}
    rows.add_shape(type="rect", x1=mark.end, fillcolor=mark.color, opacity=0.3, line_width=0, layer="below", **below)
    rows.add_shape(type="line", x1=mark.begin, line={"color": mark.color, "width": 3, "dash": mark.dash}, **below)
    rows.add_annotation(
        x=mark.begin,
        xref="x",
        y=1,
        yref="paper",
        yshift=LINE * level,
        text=f"<b>{escape(mark.label)}</b>",
        font={"color": mark.color},
        showarrow=False,
        xanchor="right" if mark.leftward else "left",
        yanchor="bottom",
    )


def by_second(requests: Sequence[Request], seconds: range, zero: float) -> list[int]:
    """How many were due in each second."""
    counts = Counter(math.floor(each.due - zero) for each in requests)
    return [counts[second] for second in seconds]


def visited(record: Record, kind: str, seconds: range, zero: float) -> list[tuple[float, float]]:
    """The part of each second in which requests of a kind were due: of the first and the last not all of it."""
    requests = record.of(kind)
    rate = record.begin.reads if kind == "read" else record.begin.writes
    first, last = (requests[0].due - zero, requests[-1].due - zero + 1 / rate) if requests else (0.0, 0.0)
    parts = ((max(second, first), min(second + 1, last)) for second in seconds)
    return [
        (begin, end) if end - begin > SLIVER else (second, second + 1)
        for second, (begin, end) in zip(seconds, parts, strict=True)
    ]


def add_outcomes(rows: go.Figure, row: int, record: Record, seconds: range, zero: float) -> None:
    """One kind of requests a second by outcome, stacked, and the longest time without success."""
    kind = KINDS[row - 1]
    parts = visited(record, kind, seconds, zero)

    def rates(*outcomes: str) -> list[float]:
        counts = by_second(record.of(kind, *outcomes), seconds, zero)
        return [count / (end - begin) for count, (begin, end) in zip(counts, parts, strict=True)]

    top = max(1, *rates())
    for outcome, (color, hatching) in BARS.items():
        rows.add_bar(
            x=[(begin + end) / 2 for begin, end in parts],
            width=[0.92 * (end - begin) for begin, end in parts],
            y=rates(outcome),
            name=outcome,
            marker={
                "color": color,
                "line": {"width": 0},
                "pattern": {"shape": hatching, "fgcolor": "white", "size": 8},
            },
            hovertemplate=f"%{{y:.0f}} {kind}s {outcome} a second<extra></extra>",
            # Both rows share a legend; what never happened needs no entry.
            showlegend=row == 1 and any(each.outcome == outcome for each in record.requests),
            row=row,
            col=1,
        )
    rows.update_yaxes(range=(0, top * HEADROOM), nticks=4, row=row)
    if not record.of(kind):
        return
    begin, end = (moment - zero for moment in longest_gap(record, kind))
    rows.add_vrect(begin, end, fillcolor=YELLOW, opacity=0.55, line_width=0, layer="below", row=row, col=1)
    late = begin > (seconds.start + seconds.stop) / 2
    rows.add_annotation(
        x=min(end, seconds.stop) if late else begin,
        xanchor="right" if late else "left",
        y=top * (1 + HEADROOM) / 2,
        text=f"longest gap <b>{end - begin:.2f} s</b>",
        showarrow=False,
        bgcolor=YELLOW,
        row=row,
        col=1,
    )


def longest_gap(record: Record, kind: str) -> tuple[float, float]:
    """From when to when the checker's longest time without success lasted."""
    requests = record.of(kind)
    gaps = [
        (outage.begin, record.end if outage.end is None else outage.end)
        for outage in (*outages_of(requests), *silences(requests))
    ]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(0.0, 0.0))


def add_latencies(rows: go.Figure, requests: Sequence[Request], zero: float) -> None:
    """Every request as a point; the bad ones come last, so that no other hides them.

    Drawn as SVG: 18,000 points take 2 s, and WebGL is missing in many a browser without a graphics card.
    """
    for name, (color, symbol, size) in POINTS.items():
        meant = [each for each in requests if name in (each.outcome, f"{each.outcome} {each.kind}")]
        rows.add_scatter(
            x=[round(each.due - zero, 3) for each in meant],
            y=[round(max(each.latency, QUICKEST), 5) for each in meant],
            text=[
                f"{each.kind} {each.status or ''} {escape(each.served_by)}<br>{escape(each.said[:80])}"
                for each in meant
            ],
            name=name,
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": size, "opacity": 0.8},
            hovertemplate="%{y} s: %{text}<extra></extra>",
            legend="legend2",
            row=3,
            col=1,
        )
    ticks = {0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1: "1 s", 10: "10 s"}
    ends = (math.log10(QUICKEST), math.log10(SLOWEST))
    rows.update_yaxes(type="log", range=ends, tickvals=list(ticks), ticktext=list(ticks.values()), row=3)


def answers_of(requests: Sequence[Request], seconds: range, zero: float) -> dict[str, list[int]]:
    """The answers a second of each server that signed any, in the order in which a request meets them."""
    signed: dict[str, list[Request]] = {}
    for each in requests:
        for name in re.findall(r"[a-z]+\d+", each.served_by):
            # Every write is the primary's, which says nothing: who is read from is the question.
            if each.kind == "read" or tier(name) != "db":
                signed.setdefault(name, []).append(each)
    order = sorted(
        (name for name in signed if tier(name) in TIERS), key=lambda name: ([*TIERS].index(tier(name)), name)
    )
    return {name: by_second(signed[name], seconds, zero) for name in order}


def tier(name: str) -> str:
    """The tier that a server's name tells."""
    return name.rstrip("0123456789")


def add_answers(rows: go.Figure, answers: dict[str, list[int]], seconds: range) -> None:
    """A lane for each server; the height of a bar is its answers in this second, as a share of the most in its tier."""
    lanes = {name: len(answers) - 1 - number for number, name in enumerate(answers)}
    for name, counts in answers.items():
        most = max(max(answers[other]) for other in answers if tier(other) == tier(name))
        rows.add_bar(
            x=[second + 0.5 for second in seconds],
            y=[0.85 * count / most for count in counts],
            base=lanes[name],
            customdata=counts,
            name=name,
            marker={"color": TIERS[tier(name)], "line": {"width": 0}},
            hovertemplate="%{customdata} answers by " + name + "<extra></extra>",
            showlegend=False,
            row=4,
            col=1,
        )
    rows.update_yaxes(
        range=(0, len(answers)),
        tickvals=[lane + 0.4 for lane in lanes.values()],
        ticktext=[f"{name} reads" if tier(name) == "db" else name for name in lanes],
        showgrid=False,
        row=4,
    )
